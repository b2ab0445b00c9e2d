// What the tests of the configuration share: a small valid file, a scratch directory, and the message of an
// error.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "config/experiment.h"
#include "errors.h"
#include "temporary.h"

namespace polar::test {

// Line numbers in the tests count these lines from 1.
inline const std::string kValid =
    "run: {name: t}\n"                                            // 1
    "model:\n"                                                    // 2
    "  vocab_size: 64\n"                                          // 3
    "  hidden_size: 32\n"                                         // 4
    "  num_hidden_layers: 2\n"                                    // 5
    "  num_attention_heads: 4\n"                                  // 6
    "  num_key_value_heads: 2\n"                                  // 7
    "  intermediate_size: 48\n"                                   // 8
    "data:\n"                                                     // 9
    "  sequence_length: 16\n"                                     // 10
    "  train: [{path: \"a-*.bin\"}]\n"                            // 11
    "  validation: [{path: \"v-*.bin\"}]\n"                       // 12
    "batch: {global_tokens: 128, micro_sequences: 4}\n"           // 13
    "optimizer:\n"                                                // 14
    "  groups:\n"                                                 // 15
    "    - {match: [\"*_proj.weight\"], type: muon, lr: 0.02}\n"  // 16
    "    - {match: [\"*\"], type: adamw, lr: 3.0e-3}\n"           // 17
    "train: {max_steps: 20}\n";                                   // 18

// The valid file with one piece of its text replaced; the piece must be there.
inline std::string valid_with(const std::string& piece, const std::string& replacement) {
  std::string text = kValid;
  const size_t position = text.find(piece);
  EXPECT_NE(position, std::string::npos) << "the test looks for a piece that is not there: " << piece;
  return position == std::string::npos ? text : text.replace(position, piece.size(), replacement);
}

class ConfigTest : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& text) const {
    return put(directory_ / name, text);
  }
  Experiment load(const std::string& text, const std::vector<std::string>& overrides = {}) const {
    return load_experiment(write("c.yaml", text), overrides);
  }

  // The message of the error that loading ends with; it has to be an Error with exit code 2.
  static std::string error_of(const std::filesystem::path& file,
                              const std::vector<std::string>& overrides = {}) {
    const Error error = test::error_of([&] { load_experiment(file, overrides); });
    EXPECT_EQ(error.code(), ExitCode::bad_usage) << error.what();
    return error.what();
  }

  TemporaryDirectory directory_;
};

}  // namespace polar::test

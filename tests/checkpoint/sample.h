// A small checkpoint for tests, different for every step, and its comparison bit by bit.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/file.h"
#include "checkpoint/store.h"

namespace polar::test {

class Sample {
 public:
  explicit Sample(int64_t step) : weights_(6 * 7), moments_(2 * 6 * 7) {
    for (size_t i = 0; i < weights_.size(); ++i)
      weights_[i] = std::sin(static_cast<float>(i) + static_cast<float>(step));
    for (size_t i = 0; i < moments_.size(); ++i) moments_[i] = std::cos(static_cast<float>(i) * weights_[0]);
    content_.model = {{"model.embed_tokens.weight", {weights_.data(), DType::f32, {6, 7}}}};
    content_.optimizer = {{"adamw.m:model.embed_tokens.weight", {moments_.data(), DType::f32, {6, 7}}},
                          {"adamw.v:model.embed_tokens.weight", {moments_.data() + 42, DType::f32, {6, 7}}}};
    content_.state = {{"step", step}, {"tokens", step * 1024}, {"seed", 1337}};
    content_.files = {{"config.json", "{\"model_type\": \"qwen3\"}\n"},
                      {"tokenizer.model", std::string("a\0b", 3)}};
  }
  Sample(const Sample&) = delete;

  const CheckpointContent& content() const { return content_; }

  // Reads `dir` back through the public interface; every tensor, the state and every file must be equal.
  void expect_in(const std::filesystem::path& dir) const {
    ASSERT_EQ(describe(verify(dir)), "");
    expect_tensors(dir, "model", content_.model);
    expect_tensors(dir, "optimizer", content_.optimizer);
    EXPECT_EQ(read_state(dir), content_.state);
    for (const SmallFile& file : content_.files) EXPECT_EQ(read_file(dir / file.name), file.content);
  }

 private:
  static void expect_tensors(const std::filesystem::path& dir, const char* stem,
                             const std::vector<NamedTensor>& expected) {
    const TensorSource source(dir, stem);
    ASSERT_EQ(source.names().size(), expected.size());
    for (const NamedTensor& t : expected) {
      std::vector<float> found(static_cast<size_t>(t.tensor.count()));
      source.read(t.name, {found.data(), DType::f32, t.tensor.shape});
      EXPECT_EQ(std::memcmp(found.data(), t.tensor.data, t.tensor.bytes()), 0) << t.name;
    }
  }

  std::vector<float> weights_, moments_;
  CheckpointContent content_;
};

}  // namespace polar::test

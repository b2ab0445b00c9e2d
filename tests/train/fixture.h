// A tiny run on real text: bytes as tokens, a model of two layers.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/store.h"
#include "config/experiment.h"
#include "data/prepare.h"
#include "report/metrics.h"
#include "temporary.h"

namespace polar::test {

class TinyRun : public testing::Test {
 protected:
  TinyRun() {
    log::set_level(log::Level::warning);
    const std::string text = read_file(std::string(POLAR_SOURCE_DIR) + "/data/austen/northanger_abbey.txt");
    put(path("text.txt"), text.substr(0, 60'000));
    PrepareOptions options;
    options.inputs = {path("text.txt")};
    options.output = path("tokens");
    options.tokenizer = "bytes";
    options.text.validation_fraction = 0.1;
    prepare_data(options);
    put(path("config.yaml"), yaml());
  }

  std::filesystem::path path(const std::string& name) const { return directory_.path() / name; }

  std::string yaml() const {
    const std::string tokens = path("tokens").string();
    return "run: {name: tiny, dir: " + path("run").string() + ", seed: 5}\n" + R"(
model: {architecture: qwen3, vocab_size: 257, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 4,
        num_key_value_heads: 2, head_dim: 8, intermediate_size: 64, tie_word_embeddings: true}
batch: {global_tokens: 256, micro_sequences: 4}
optimizer:
  groups:
    - {match: ["*_proj.weight"], type: muon, lr: 0.02, weight_decay: 0.01}
    - {match: ["*"], type: adamw, lr: 3.0e-3}
schedule: {kind: linear, warmup_steps: 3}
train: {max_steps: 40}
evaluation: {every_steps: 20, sequences: 8}
checkpoint: {every_steps: 20, keep_last: 0}
log: {every_steps: 1, tensorboard: false}
)" +
           "data: {sequence_length: 32, tokenizer: bytes, train: [{path: " + tokens +
           "/train-*.bin}], validation: [{path: " + tokens + "/val-*.bin}]}\n";
  }

  Experiment experiment(const std::string& run, std::vector<std::string> overrides = {}) const {
    overrides.push_back("run.dir=" + path(run).string());
    return load_experiment(path("config.yaml"), overrides);
  }

  // The bytes of a checkpoint's weights and optimizer state.
  std::string state_of(const std::string& run, int64_t step) const {
    const std::filesystem::path dir = checkpoint_dir(path(run), step);
    return read_file(dir / "model.safetensors") + read_file(dir / "optimizer.safetensors");
  }
  // metrics.jsonl without what depends on the clock.
  std::string metrics_of(const std::string& run) const {
    std::ifstream file(path(run) / "metrics.jsonl");
    std::string all;
    for (std::string line; std::getline(file, line);) all += deterministic_part(line) + "\n";
    return all;
  }

 private:
  TemporaryDirectory directory_;
};

}  // namespace polar::test

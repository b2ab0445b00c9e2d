// Several ranks on CUDA and NCCL, both emulated: they come to what one comes to.
#ifdef POLAR_EMULATED_NCCL
#include <unistd.h>

#include <cmath>
#include <memory>

#include "comm/ranks.h"
#include "process.h"
#include "train/fixture.h"

namespace polar::test {
namespace {

using Overrides = std::vector<std::string>;

class EmulatedRanks : public TinyRun {
 protected:
  void train_on(int ranks, const std::string& run, const Overrides& overrides, const char* lazy = "0") {
    std::vector<std::unique_ptr<Process>> processes;
    const std::string port = std::to_string(free_port()), size = std::to_string(ranks);
    for (int rank = 0; rank < ranks; ++rank) {
      std::vector<std::string> words{"/usr/bin/env",
                                     "RANK=" + std::to_string(rank),
                                     "LOCAL_RANK=" + std::to_string(rank),
                                     "WORLD_SIZE=" + size,
                                     "LOCAL_WORLD_SIZE=" + size,
                                     "MASTER_ADDR=127.0.0.1",
                                     "MASTER_PORT=" + port,
                                     std::string("EMULATOR_LAZY=") + lazy,
                                     POLAR_EMULATED_BINARY,
                                     "train",
                                     path("config.yaml").string(),
                                     "run.dir=" + path(run).string(),
                                     "run.device=cuda",
                                     "batch.global_tokens=256",
                                     "batch.micro_sequences=2",
                                     "model.num_attention_heads=2",
                                     "model.num_key_value_heads=1",
                                     "model.head_dim=32",
                                     "train.max_steps=4",
                                     "evaluation.every_steps=0",
                                     "optimizer.groups.0.lr=5e-3",
                                     "optimizer.groups.1.lr=1e-3",
                                     "distributed.timeout_seconds=60"};
      words.insert(words.end(), overrides.begin(), overrides.end());
      processes.push_back(std::make_unique<Process>(words));
    }
    for (const auto& process : processes) EXPECT_EQ(process->wait(), 0) << process->output();
  }

  std::vector<float> weights(const std::string& run, int64_t step) const {
    std::vector<float> all;
    const TensorSource source(checkpoint_dir(path(run), step));
    for (const std::string& name : source.names()) {
      const Shape shape = source.info(name).shape;
      const size_t before = all.size();
      all.resize(before + static_cast<size_t>(shape.count()));
      source.read(name, {all.data() + before, DType::f32, shape});
    }
    return all;
  }
  // ||a - b|| / ||b||
  static double difference(const std::vector<float>& a, const std::vector<float>& b) {
    EXPECT_EQ(a.size(), b.size());
    double apart = 0.0, size = 0.0;
    for (size_t i = 0; i < b.size(); ++i) {
      const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
      apart += d * d;
      size += static_cast<double>(b[i]) * static_cast<double>(b[i]);
    }
    return std::sqrt(apart / size);
  }

 private:
};

TEST_F(EmulatedRanks, TrainAsOne) {
  train_on(1, "one", {});
  const std::vector<float> want = weights("one", 4);
  for (const int ranks : {2, 4})
    for (const char* lazy : {"0", "1"}) {
      const std::string run = std::to_string(ranks) + lazy;
      train_on(ranks, run, {std::string("distributed.sharding=") + (ranks == 2 ? "gradients" : "optimizer")},
               lazy);
      EXPECT_LE(difference(weights(run, 4), want), 2e-6) << run;
    }
}

// distributed.reduction: invariant, in both formats; four micro-batches of two sequences.
TEST_F(EmulatedRanks, ComeToTheSameBits) {
  for (const char* format : {"fp32", "bf16"}) {
    const std::string compute = std::string("precision.compute=") + format;
    const Overrides overrides{compute, "distributed.reduction=invariant", "optimizer.groups.0.type=polargrad",
                              "optimizer.clip_norm=0.5"};
    const auto name = [format](const char* run) { return std::string(run) + format; };
    train_on(1, name("one"), overrides);
    const std::vector<float> want = weights(name("one"), 4);
    train_on(4, name("four"), overrides, "1");
    EXPECT_EQ(weights(name("four"), 4), want) << format;
    Overrides sharded = overrides;
    sharded.emplace_back("distributed.sharding=gradients");
    train_on(2, name("two"), overrides, "1");
    EXPECT_EQ(weights(name("two"), 4), want) << format;
    train_on(2, name("two, gradients"), sharded, *format == 'f' ? "0" : "1");
    EXPECT_EQ(weights(name("two, gradients"), 4), want) << format;
    train_on(2, name("fast"), {compute, "optimizer.groups.0.type=polargrad", "optimizer.clip_norm=0.5"});
    EXPECT_NE(weights(name("fast"), 4), want) << format;
  }
}

// In bf16 each rank has the parameters that it owns in full precision, and bf16 weights of all.
TEST_F(EmulatedRanks, InBf16WhatTwoSavedTheyContinueToTheSameBits) {
  const Overrides bf16{"precision.compute=bf16", "checkpoint.every_steps=2",
                       "optimizer.groups.0.type=polargrad", "distributed.gradient_dtype=bf16"};
  train_on(2, "whole", bf16);
  std::filesystem::copy(path("whole"), path("cut"), std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(checkpoint_dir(path("cut"), 4));
  train_on(2, "cut", bf16, "1");
  EXPECT_EQ(difference(weights("cut", 4), weights("whole", 4)), 0.0);
}

// The bound of f32 holds here too: where no parameter comes to lie so near to the middle of two bf16 weights
// that another order of summing takes it to the other one.
TEST_F(EmulatedRanks, InBf16TheyTrainAsOneToo) {
  const Overrides bf16{"precision.compute=bf16", "checkpoint.every_steps=2"};
  train_on(1, "one", bf16);
  for (const int ranks : {2, 4}) {
    const std::string run = std::to_string(ranks);
    train_on(ranks, run, bf16);
    EXPECT_LE(difference(weights(run, 2), weights("one", 2)), 2e-6) << ranks;
  }
  // What one saved, four continue.
  std::filesystem::copy(path("one"), path("on"), std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(checkpoint_dir(path("on"), 4));
  train_on(4, "on", bf16);
  EXPECT_LE(difference(weights("on", 4), weights("one", 4)), 2e-6);
}

}  // namespace
}  // namespace polar::test
#endif

// The simulation of whole runs: it rests on the plans that a run would have, and its limits are right.
#include "plan/simulate.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "errors.h"
#include "plan/recommend.h"
#include "plan/run_plan.h"
#include "temporary.h"

namespace polar::test {
namespace {

const std::string kConfigs = std::string(POLAR_SOURCE_DIR) + "/configs/";

Experiment preset(const std::string& name, const std::vector<std::string>& overrides = {}) {
  return load_experiment(kConfigs + name + ".yaml", overrides);
}

// An H100 whose memory is planned as the CPU's: every test program has that backend.
Hardware h100(const std::vector<std::string>& overrides = {}) {
  return load_hardware(kConfigs + "hardware/8xh100.yaml", overrides);
}

class Simulated : public testing::Test {
 protected:
  Simulation run(const Experiment& experiment, const Hardware& hardware, int ranks) const {
    return RankSimulator(experiment, *ops_, hardware, ranks).run();
  }
  size_t planned(const Experiment& experiment, const Topology& topology) const {
    const RunPlan plan(experiment, *ops_, topology);
    return plan.device.total_bytes() + plan.host.total_bytes();
  }
  std::unique_ptr<Ops> ops_ = make_ops({.device = "cpu", .plan_only = true});
};

TEST_F(Simulated, OneRankDoesNotCommunicate) {
  const Simulation s = run(preset("models/124m"), h100(), 1);
  EXPECT_EQ(s.timeline.exposed(), 0.0);
  EXPECT_EQ(s.timeline.reduce_scatter + s.timeline.all_gather, 0.0);
  EXPECT_EQ(s.elements_sent, 0);
  EXPECT_EQ(s.bytes_sent, 0);
  EXPECT_EQ(s.nodes, 1);
  EXPECT_EQ(s.micro_steps, 64);
  EXPECT_EQ(s.timeline.step, s.step_without_overlap);
  EXPECT_GT(s.mfu, 0.0);
  EXPECT_LT(s.mfu, 0.7);  // gemm_share
}

// What travels is what the sharding plan counts: at a link without latency its time is the volume's.
TEST_F(Simulated, VolumeIsThePlans) {
  const Hardware hardware = h100({"collective_us=0", "node.link.latency_us=0", "network.card.latency_us=0"});
  for (const auto& [ranks, keys] : {std::pair{2, std::vector<std::string>{}},
                                    {8, {"distributed.gradient_dtype=bf16"}},
                                    {16, {"distributed.sharding=gradients"}},
                                    {64, {}}}) {
    const Experiment e = preset("models/qwen3-0.6b", keys);
    const Simulation s = run(e, hardware, ranks);
    Experiment planned = e;
    planned.batch.micro_sequences = s.micro_sequences;
    const RunPlan plan(planned, *ops_, {.rank = 0, .world_size = ranks});
    ASSERT_EQ(s.elements_sent, plan.shards->elements_sent());
    ASSERT_EQ(s.bytes_sent, plan.bytes_sent());
    ASSERT_EQ(s.padding, plan.shards->padding());
    const double bytes_per_s = hardware.node.link.bytes_per_s();  // eight cards are faster
    const double on_link = (s.timeline.reduce_scatter + s.timeline.all_gather) * bytes_per_s;
    ASSERT_NEAR(on_link, static_cast<double>(s.bytes_sent), 1e-6 * on_link) << ranks << " ranks";
  }
}

// The memory of the rank that needs the most, whatever the micro-batch and the recomputation.
TEST_F(Simulated, MemoryIsThePlans) {
  const std::vector<std::string> small{"batch.global_tokens=16384", "batch.micro_sequences=1"};
  for (const auto& [micro, level] : {std::pair{int64_t{1}, Recompute::none},
                                     {int64_t{2}, Recompute::layer},
                                     {int64_t{4}, Recompute::mlp}}) {
    Experiment e = preset("models/124m", small);
    e.batch.micro_sequences = micro;
    e.train.recompute = level;
    for (const int ranks : {1, 4}) {
      size_t most = 0;
      for (int rank = 0; rank < ranks; ++rank)
        most = std::max(most, planned(e, {.rank = rank, .world_size = ranks}));
      ASSERT_EQ(run(e, h100(), ranks).memory_bytes, most) << ranks << " ranks, micro-batch " << micro;
      e.distributed.sharding = "gradients";
      e.distributed.gradient_dtype = "bf16";
    }
  }
}

// Published tokens a second of other programs, 524,288 tokens a step in sequences of 1024: LLMQ on H100s
// (Qwen2.5) and llm.c on A100s (GPT-2 124M). That the assumptions of configs/hardware come near them is what
// the README says of them.
TEST_F(Simulated, AssumptionsOfTheGpuFilesComeNearPublishedFigures) {
  std::unique_ptr<Ops> cuda;
  try {
    cuda = make_ops({.device = "cuda", .plan_only = true});
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  struct Published {
    const char *model, *hardware;
    int ranks;
    double tokens_per_s;
  };
  for (const Published& p : {Published{"qwen2.5-0.5b", "8xh100", 1, 150e3},
                             {"qwen2.5-1.5b", "8xh100", 1, 58.9e3},
                             {"qwen2.5-3b", "8xh100", 1, 30.9e3},
                             {"qwen2.5-0.5b", "8xh100", 8, 1.19e6},
                             {"qwen2.5-1.5b", "8xh100", 8, 457e3},
                             {"qwen2.5-3b", "8xh100", 8, 240e3},
                             {"124m", "8xa100", 8, 1.75e6}}) {
    const Hardware hardware = load_hardware(kConfigs + "hardware/" + p.hardware + ".yaml");
    const Experiment e = preset(std::string("models/") + p.model);
    const Simulation s = RankSimulator(e, *cuda, hardware, p.ranks).run();
    EXPECT_NEAR(s.tokens_per_s / p.tokens_per_s, 1.0, 0.04) << p.model << ", " << p.ranks << " ranks";
  }
}

// In bf16 the ranks keep rounded weights, which travel, and parameters of their own only.
TEST_F(Simulated, MemoryAndVolumeOfAGpuAreThePlans) {
  std::unique_ptr<Ops> cuda;
  try {
    cuda = make_ops({.device = "cuda", .plan_only = true});
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  const std::vector<std::string> settings[] = {
      {"batch.micro_sequences=8"},
      {"batch.micro_sequences=4", "train.recompute=layer", "distributed.sharding=gradients"},
      {"batch.micro_sequences=2", "train.recompute=mlp", "distributed.gradient_dtype=bf16"}};
  for (const std::vector<std::string>& keys : settings) {
    const Experiment e = preset("models/qwen3-0.6b", keys);
    size_t most = 0;
    int64_t sent = 0;
    for (int rank = 0; rank < 16; ++rank) {
      const RunPlan plan(e, *cuda, {.rank = rank, .world_size = 16});
      most = std::max(most, plan.device.total_bytes());
      sent = plan.bytes_sent();
    }
    const Simulation s = RankSimulator(e, *cuda, h100(), 16).run();
    EXPECT_EQ(s.memory_bytes, most) << keys.front();
    EXPECT_EQ(s.bytes_sent, sent) << keys.front();
  }
}

TEST_F(Simulated, AnInfinitelyFastLinkExposesNothing) {
  const Hardware hardware = h100({"collective_us=0", "node.link.latency_us=0", "network.card.latency_us=0",
                                  "node.link.gb_per_s=1e30", "network.card.gb_per_s=1e30"});
  const Simulation s = run(preset("models/qwen3-1.7b"), hardware, 64);
  EXPECT_LT(s.timeline.exposed(), 1e-9 * s.timeline.step);
  EXPECT_GT(s.bytes_sent, 0);
}

// Nothing gets slower by a faster part.
TEST_F(Simulated, FasterPartsDoNotSlowItDown) {
  const Experiment e = preset("models/qwen2.5-0.5b");
  for (const int ranks : {1, 8, 32}) {
    const double before = run(e, h100(), ranks).timeline.step;
    for (const char* faster :
         {"device.gemm_share=0.9", "device.attention_share=0.9", "device.polar_share=0.9",
          "device.memory_share=1.0", "device.launch_us=0", "node.link.gb_per_s=900",
          "network.card.gb_per_s=100", "network.card.latency_us=0", "collective_us=0"})
      EXPECT_LE(run(e, h100({faster}), ranks).timeline.step, before) << faster << ", " << ranks << " ranks";
    EXPECT_LT(run(e, h100({"device.gemm_share=0.9"}), ranks).timeline.step, before);
  }
  const double slow = run(e, load_hardware(kConfigs + "hardware/8xh100-one-card.yaml"), 32).timeline.step;
  EXPECT_GT(slow, run(e, h100(), 32).timeline.step);
}

// What a factorization costs on a device is not described: refused by name, not guessed.
TEST_F(Simulated, OraclesOfUnknownCostAreRefused) {
  const Error error = error_of([&] { run(preset("models/polargrad-540m"), h100(), 1); });
  EXPECT_EQ(error.code(), ExitCode::bad_usage);
  EXPECT_NE(std::string(error.what()).find("does not know what the oracle qdwh 5 costs"), std::string::npos)
      << error.what();
}

// Every preset on every machine of configs/hardware, and the components add up.
TEST_F(Simulated, PresetsOnAllHardware) {
  const auto simulated = [&](const std::string& name) {
    if (name != "polargrad-540m") return preset("models/" + name);
    return preset("models/" + name, {"optimizer.groups.1.oracle.kind=polar_express"});
  };
  for (const char* name :
       {"124m", "qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen3-0.6b", "qwen3-1.7b", "polargrad-540m"})
    for (const auto& file : std::filesystem::directory_iterator(kConfigs + "hardware")) {
      const Hardware hardware = load_hardware(file.path());
      for (const int ranks : {1, 2, 16}) {
        if (nodes_of(hardware, ranks) > 1 && !hardware.network) continue;
        const Simulation s = run(simulated(name), hardware, ranks);
        const std::string where = fmt::format("{} on {} x {}", name, ranks, hardware.name);
        ASSERT_GT(s.other, 0.0) << where;
        const double parts = s.forward.sum() + s.backward.sum() + s.update.sum() + s.other;
        ASSERT_NEAR(s.timeline.step, parts + s.timeline.exposed(), 1e-9 * s.timeline.step) << where;
        ASSERT_LE(s.timeline.step, s.step_without_overlap * (1 + 1e-12)) << where;
        ASSERT_NEAR(s.tokens_per_s * s.timeline.step,
                    static_cast<double>(s.micro_sequences * s.micro_steps) * ranks *
                        static_cast<double>(simulated(name).data.sequence_length),
                    1.0)
            << where;
      }
    }
}

TEST_F(Simulated, MicroBatchesAreLoweredToADivisor) {
  const Experiment e = preset("models/124m", {"batch.global_tokens=24576", "batch.micro_sequences=8"});  // 24
  EXPECT_EQ(RankSimulator(e, *ops_, h100(), 1).configured_micro_sequences(), 8);
  EXPECT_EQ(RankSimulator(e, *ops_, h100(), 2).configured_micro_sequences(), 6);
  EXPECT_EQ(RankSimulator(e, *ops_, h100(), 8).configured_micro_sequences(), 3);
  EXPECT_THROW(RankSimulator(e, *ops_, h100(), 2).run(5, Recompute::none), Error);
  const Error error = error_of([&] { RankSimulator(e, *ops_, h100(), 7); });
  EXPECT_EQ(error.code(), ExitCode::bad_usage);
  EXPECT_NE(std::string(error.what()).find("24 sequences"), std::string::npos) << error.what();
}

TEST_F(Simulated, AnotherReductionIsRefused) {
  const Experiment e = preset("models/124m", {"batch.micro_sequences=8", "distributed.reduction=invariant"});
  const Error error = error_of([&] { RankSimulator(e, *ops_, h100(), 8); });
  EXPECT_EQ(error.code(), ExitCode::bad_usage);
  EXPECT_NE(std::string(error.what()).find("distributed.reduction: found invariant"), std::string::npos)
      << error.what();
}

// --- recommendations ---

TEST_F(Simulated, TheBestSettingsFitAndNoOthersThatFitAreFaster) {
  const Experiment e = preset("models/qwen3-0.6b", {"batch.global_tokens=131072"});
  const Hardware hardware = h100({"device.memory_gb=40"});
  const std::vector<Scaling> all = simulate_all(e, *ops_, hardware, {1, 2, 3, 8});
  ASSERT_EQ(all.size(), 4u);
  EXPECT_NE(all[2].refusal.find("3 ranks"), std::string::npos);
  EXPECT_FALSE(all[2].best || all[2].configured);
  for (const size_t i : {0, 1, 3}) {
    ASSERT_TRUE(all[i].best);
    EXPECT_TRUE(all[i].best->fits());
    EXPECT_EQ(all[i].best->gradient_dtype, DType::f32);  // rounded ones do not make a step 5 % faster
    const RankSimulator simulator(e, *ops_, hardware, all[i].ranks);
    for (const Recompute level : {Recompute::none, Recompute::mlp, Recompute::layer})
      for (int64_t micro = 1; micro <= simulator.sequences(); micro *= 2) {
        const Simulation other = simulator.run(micro, level);
        EXPECT_TRUE(!other.fits() ||
                    other.timeline.step >= (1 - kWorthSharding) * all[i].best->timeline.step);
      }
  }
  EXPECT_DOUBLE_EQ(all[0].efficiency, 1.0);
  EXPECT_NEAR(all[3].efficiency, all[3].best->tokens_per_s / 8 / all[0].best->tokens_per_s, 1e-12);
}

TEST_F(Simulated, TheLargestNumberThatIsWorthIt) {
  const std::vector<Scaling> all =
      simulate_all(preset("models/124m"), *ops_, h100(), {1, 2, 4, 8, 16, 32, 64, 128});
  const Scaling* half = largest_worth_it(all, 0.5);
  const Scaling* most = largest_worth_it(all, 0.9);
  ASSERT_TRUE(half && most);
  EXPECT_GE(half->efficiency, 0.5);
  EXPECT_GE(most->efficiency, 0.9);
  EXPECT_GT(half->ranks, most->ranks);
  for (const Scaling& scaling : all) EXPECT_TRUE(scaling.ranks <= most->ranks || scaling.efficiency < 0.9);
}

// On slow links gradients that travel in bf16 are worth it; sharded gradients travel in every micro-batch.
TEST_F(Simulated, SlowLinksWantFewBytes) {
  const Hardware slow =
      load_hardware(kConfigs + "hardware/8xh100-one-card.yaml", {"device.tflops_fp32=989.4"});
  const Experiment e = preset("models/124m");
  EXPECT_EQ(simulate_all(e, *ops_, slow, {16}).front().best->gradient_dtype, DType::bf16);
  const Simulation configured = run(e, slow, 16);
  const Simulation bf16 = run(preset("models/124m", {"distributed.gradient_dtype=bf16"}), slow, 16);
  EXPECT_LT(bf16.timeline.step, configured.timeline.step);
  EXPECT_LT(bf16.bytes_sent, configured.bytes_sent);
  const Simulation sharded = run(preset("models/124m", {"distributed.sharding=gradients"}), slow, 16);
  EXPECT_GT(sharded.timeline.step, configured.timeline.step);
  EXPECT_LT(sharded.memory_bytes, configured.memory_bytes);
}

// A model that does not fit as configured is recomputed; on a card that is too small nothing is recommended.
TEST_F(Simulated, LittleMemoryMakesItRecompute) {
  const Experiment e = preset("models/qwen2.5-1.5b", {"batch.micro_sequences=8"});
  const std::vector<Scaling> tight = simulate_all(e, *ops_, h100({"device.memory_gb=34"}), {8});
  ASSERT_TRUE(tight[0].configured && tight[0].best);
  EXPECT_FALSE(tight[0].configured->fits());
  EXPECT_TRUE(tight[0].best->micro_sequences < 8 || tight[0].best->recompute != Recompute::none);
  const std::vector<Scaling> small = simulate_all(e, *ops_, h100({"device.memory_gb=8"}), {1});
  EXPECT_FALSE(small[0].best);
  EXPECT_TRUE(small[0].refusal.empty());
  EXPECT_EQ(largest_worth_it(small, 0.9), nullptr);
}

// What is printed as keys is a configuration, and it is the one that was simulated.
TEST_F(Simulated, SettingsAreKeysOfTheConfiguration) {
  const Experiment e = preset("models/124m");
  const Scaling scaling = simulate_all(e, *ops_, h100(), {8}).front();
  const TemporaryDirectory directory;
  const std::filesystem::path file = directory.path() / "c.yaml";
  put(file, "include: " + kConfigs + "models/124m.yaml\n" + settings_yaml(*scaling.best, e));
  const Experiment loaded = load_experiment(file, {});
  EXPECT_EQ(loaded.batch.micro_sequences, scaling.best->micro_sequences);
  EXPECT_EQ(loaded.train.recompute, scaling.best->recompute);
  EXPECT_EQ(loaded.distributed.sharding == "gradients", scaling.best->shards_gradients);
  EXPECT_NO_THROW(RunPlan(loaded, *ops_, {.rank = 0, .world_size = 8}));
  EXPECT_EQ(run(loaded, h100(), 8).timeline.step, scaling.best->timeline.step);
}

}  // namespace
}  // namespace polar::test

// Several processes train as one: the same result for any number of ranks, whoever saved it.
#include "plan/run_plan.h"
#include "train/rank_runs.h"

namespace polar::test {
namespace {

using testing::HasSubstr;

// At learning rates that a run would take: at ten times those a rounding difference itself grows faster.
class Optimizers : public Ranks, public testing::WithParamInterface<RanksCase> {};

TEST_P(Optimizers, NeitherTheNumberOfRanksNorAccumulationMatters) {
  constexpr int kSequences = 48;  // of a step
  Overrides overrides = GetParam().overrides;
  for (const char* more :
       {"train.max_steps=20", "data.packing=documents", "data.sequence_length=8", "evaluation.every_steps=0",
        "checkpoint.every_steps=0", "optimizer.groups.1.lr=1e-3", "batch.micro_sequences=48"})
    overrides.push_back(more);
  train(1, "one", overrides);
  const Weights want = weights("one", 20);
  for (const int ranks : {1, 2, 3, 4})
    for (const int accumulation : {1, 2, 4}) {
      overrides.back() = fmt::format("batch.micro_sequences={}", kSequences / ranks / accumulation);
      const std::string run = fmt::format("{}-{}", ranks, accumulation);
      train(ranks, run, overrides);
      EXPECT_LE(difference(weights(run, 20), want), 2e-6) << run;
    }
}

INSTANTIATE_TEST_SUITE_P(
    Ranks, Optimizers,
    testing::Values(
        RanksCase{"AdamW", {"optimizer.groups.0.type=adamw", "optimizer.groups.0.lr=1e-3"}},
        RanksCase{"Muon", {"optimizer.groups.0.lr=5e-3"}},
        RanksCase{"PolarGrad", {"optimizer.groups.0.type=polargrad"}},
        RanksCase{"Qdwh", {"optimizer.groups.0.type=polargrad", "optimizer.groups.0.oracle.kind=qdwh"}},
        RanksCase{"PolarFirst",
                  {"optimizer.groups.0.type=polargrad", "optimizer.groups.0.momentum.kind=polar_first"}},
        RanksCase{"HeavyBall",
                  {"optimizer.groups.0.type=polargrad", "optimizer.groups.0.momentum.kind=heavy_ball",
                   "optimizer.groups.0.lr=2e-3"}},
        RanksCase{"NorMuon",
                  {"optimizer.groups.0.lr=5e-3", "optimizer.groups.0.neuron_beta=0.95",
                   "optimizer.groups.0.per_head=true", "optimizer.groups.0.momentum.warmup_steps=10"}},
        RanksCase{"Sgd",
                  {"optimizer.groups.0.type=sgd", "optimizer.groups.0.lr=1e-2", "optimizer.groups.1.type=sgd",
                   "optimizer.groups.1.scale.kind=spectral"}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_P(Optimizers, ShardedGradientsChangeNothing) {
  Overrides overrides = GetParam().overrides;
  for (const char* more :
       {"train.max_steps=20", "data.packing=documents", "evaluation.every_steps=0",
        "checkpoint.every_steps=0", "optimizer.groups.1.lr=1e-3", "batch.micro_sequences=3"})
    overrides.push_back(more);
  train(1, "one", overrides);
  const Weights want = weights("one", 20);
  overrides.emplace_back("distributed.sharding=gradients");
  for (const auto& [ranks, micro] : {std::pair{2, 2}, {3, 4}, {4, 1}}) {
    overrides.push_back("batch.micro_sequences=" + std::to_string(micro));
    const std::string run = std::to_string(ranks) + "-" + std::to_string(micro);
    train(ranks, run, overrides);
    EXPECT_LE(difference(weights(run, 20), want), 2e-6) << ranks << " ranks, " << micro << " sequences";
  }
}

// Directions in which the gradients have hardly been are eigenvectors by rounding alone, and with its usual
// eps SOAP makes them as large as any other: what depends on the order of summation is then no longer small.
// With this one they count as little as they should.
TEST_F(Ranks, ShampooAndSoapOnAnyNumber) {
  for (const Overrides& kind :
       {Overrides{"optimizer.groups.0.type=shampoo", "optimizer.groups.0.lr=1e-3"},
        {"optimizer.groups.0.type=soap", "optimizer.groups.0.lr=1e3", "optimizer.groups.0.eps=1e3"}}) {
    Overrides overrides = kind;
    for (const char* more : {"train.max_steps=12", "data.packing=documents", "evaluation.every_steps=0",
                             "checkpoint.every_steps=6", "optimizer.groups.1.lr=1e-3",
                             "batch.micro_sequences=2", "optimizer.groups.0.precondition_frequency=4"})
      overrides.emplace_back(more);
    for (const char* run : {"one", "three", "sharded", "two"}) std::filesystem::remove_all(path(run));
    train(1, "one", overrides);
    const Weights want = weights("one", 12);
    train(3, "three", overrides);
    EXPECT_LE(difference(weights("three", 12), want), 2e-6);
    std::filesystem::copy(path("three"), path("two"), std::filesystem::copy_options::recursive);
    std::filesystem::remove_all(checkpoint_dir(path("two"), 12));
    train(2, "two", overrides);
    EXPECT_LE(difference(weights("two", 12), want), 2e-6);
    overrides.emplace_back("distributed.sharding=gradients");
    train(2, "sharded", overrides);
    EXPECT_LE(difference(weights("sharded", 12), want), 2e-6);
    EXPECT_GT(difference(weights("one", 6), want), 1e-3);  // it does move
  }
}

// Rules whose step is no continuous function of the gradient: a rounding difference turns the sign of
// elements that are nearly zero, and of few only.
class SignRules : public Ranks, public testing::WithParamInterface<RanksCase> {};
TEST_P(SignRules, DifferInFewElements) {
  Overrides overrides = GetParam().overrides;
  for (const char* more : {"train.max_steps=5", "evaluation.every_steps=0", "checkpoint.every_steps=0",
                           "optimizer.groups.1.lr=1e-3", "batch.micro_sequences=2"})
    overrides.push_back(more);
  train(1, "one", overrides);
  train(3, "three", overrides);
  const Weights one = weights("one", 5), three = weights("three", 5);
  size_t different = 0, all = 0;
  for (const auto& [name, values] : one)
    for (size_t i = 0; i < values.size(); ++i, ++all)
      if (std::abs(values[i] - three.at(name)[i]) > 1e-6) ++different;
  EXPECT_LE(different, all / 1000) << different << " of " << all;
}
INSTANTIATE_TEST_SUITE_P(
    Ranks, SignRules,
    testing::Values(RanksCase{"Lion",
                              {"optimizer.groups.0.type=lion", "optimizer.groups.0.lr=1e-4",
                               "optimizer.groups.1.type=lion"}},
                    RanksCase{"SignSgd", {"optimizer.groups.0.type=signsgd", "optimizer.groups.0.lr=1e-3"}}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_F(Ranks, DiagnosticsAreThoseOfOneRank) {
  // A matrix rule for the embedding too: its gradient is then whole on one rank.
  const Overrides overrides{"train.max_steps=6", "log.diagnostics_every_steps=3", "batch.micro_sequences=2",
                            "optimizer.groups.0.match=[\"*_proj.weight\",\"model.embed_tokens.weight\"]",
                            "optimizer.groups.0.type=polargrad"};
  train(1, "one", overrides);
  train(3, "three", overrides);
  const MetricsTable one = read_metrics(path("one") / "metrics.jsonl"),
                     three = read_metrics(path("three") / "metrics.jsonl");
  for (const auto& [name, values] : one.columns) {
    if (name.find('/') == std::string::npos || name.starts_with("lr/")) continue;
    ASSERT_TRUE(three.columns.contains(name)) << name;
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(std::isnan(values[i]), i != 2 && i != 5) << name;
      // A condition number is the inverse of the smallest value, which rounding differences change most.
      if (std::isnan(values[i]) || name.find("condition") != std::string::npos) continue;
      EXPECT_NEAR(three.column(name)[i], values[i], 1e-3 * std::abs(values[i])) << name;
    }
  }
  EXPECT_GE(one.columns.count("nuclear_share/mlp.up_proj"), 1u);
  EXPECT_GE(one.columns.count("gradient_condition/embed_tokens"), 1u);
}

// What is measured leaves no trace in the run.
TEST_F(Ranks, DiagnosticsChangeNothing) {
  const Overrides overrides{"train.max_steps=6", "batch.micro_sequences=3",
                            "optimizer.groups.0.neuron_beta=0.9"};
  Overrides measured = overrides;
  measured.emplace_back("log.diagnostics_every_steps=1");
  train(2, "plain", overrides);
  train(2, "measured", measured);
  EXPECT_EQ(difference(weights("plain", 6), weights("measured", 6)), 0.0);
}

TEST_F(Ranks, TheSameNumberTwiceGivesTheSameBits) {
  for (const Overrides& kind : {Overrides{},
                                {"distributed.sharding=gradients"},
                                {"distributed.gradient_dtype=bf16"},
                                {"distributed.sharding=gradients", "distributed.gradient_dtype=bf16"}}) {
    Overrides overrides = kind;
    overrides.insert(overrides.end(), {"train.max_steps=6", "batch.micro_sequences=2"});
    for (const char* run : {"a", "b"}) {
      std::filesystem::remove_all(path(run));
      train(3, run, overrides);
    }
    EXPECT_EQ(difference(weights("a", 6), weights("b", 6)), 0.0);
    EXPECT_EQ(metrics_of("a"), metrics_of("b"));
  }
}

// A gradient in bf16 is off by 2^-9 of itself at most, once on every rank before it is summed and once after:
// so is the norm of all of them, by 2^-9 of the sum of the ranks' norms, which here are each some 1.5 to 2
// times the norm of the mean.
TEST_F(Ranks, GradientsInBf16AreRoundedAndNoMore) {
  const Overrides once{"train.max_steps=4", "batch.micro_sequences=2", "optimizer.clip_norm=0"};
  const auto norm = [&](const std::string& run, const char* dtype, const char* sharding) {
    Overrides overrides = once;
    overrides.push_back(std::string("distributed.gradient_dtype=") + dtype);
    overrides.push_back(std::string("distributed.sharding=") + sharding);
    train(2, run, overrides);
    return read_metrics(path(run) / "metrics.jsonl").column("grad_norm").front();
  };
  const double want = norm("fp32", "fp32", "optimizer");
  for (const char* sharding : {"optimizer", "gradients"}) {
    const double got = norm(sharding, "bf16", sharding);
    EXPECT_NE(got, want);
    EXPECT_NEAR(got / want, 1.0, 3.0 / 512.0) << sharding;
  }
}

TEST_F(Ranks, WhatFourSavedAnyNumberContinues) {
  const Overrides overrides{"batch.micro_sequences=1", "checkpoint.every_steps=10",
                            "optimizer.groups.0.type=polargrad"};
  const auto with_steps = [&](int steps) {
    Overrides all = overrides;
    all.push_back("train.max_steps=" + std::to_string(steps));
    return all;
  };
  train(4, "whole", with_steps(20));
  const std::vector<double> want = losses("whole");
  ASSERT_EQ(want.size(), 20u);
  for (const int ranks : {1, 2, 3, 4}) {
    const std::string run = "on-" + std::to_string(ranks);
    std::filesystem::copy(path("whole"), path(run), std::filesystem::copy_options::recursive);
    std::filesystem::remove_all(checkpoint_dir(path(run), 20));
    train(ranks, run, with_steps(20));
    const std::vector<double> got = losses(run);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i] / want[i], 1.0, 1e-5) << ranks << ", " << i;
    EXPECT_LE(difference(weights(run, 20), weights("whole", 20)), ranks == 4 ? 0.0 : 2e-6);
  }
}

// What travels is what the plan says, and nothing else but the two scalars of a step.
TEST_F(Ranks, TheVolumeIsThePlans) {
  using Kind = std::tuple<int, const char*, const char*>;
  for (const auto& [ranks, sharding, dtype] : {Kind{2, "optimizer", "fp32"}, Kind{3, "optimizer", "bf16"},
                                               Kind{2, "gradients", "bf16"}, Kind{3, "gradients", "fp32"}}) {
    const Overrides overrides{"train.max_steps=4", "batch.micro_sequences=2", "evaluation.every_steps=0",
                              std::string("distributed.sharding=") + sharding,
                              std::string("distributed.gradient_dtype=") + dtype};
    const std::string run = fmt::format("{}-{}-{}", ranks, sharding, dtype);
    Group group(ranks, command(run, overrides));
    group.expect_success();
    const std::string output = group[0].output();
    long long sent = 0, planned = 0;
    const size_t at = output.find("sent       ");
    ASSERT_NE(at, std::string::npos) << output;
    const char* kFormat = "sent %lld bytes a step by a rank, of which %lld";
    ASSERT_EQ(std::sscanf(output.c_str() + at, kFormat, &sent, &planned), 2);
    std::vector<std::string> plan{POLAR_BINARY,
                                  "plan",
                                  path("config.yaml").string(),
                                  "--json",
                                  "--world-size",
                                  std::to_string(ranks),
                                  "batch.global_tokens=384"};
    plan.insert(plan.end(), overrides.begin(), overrides.end());
    const Finished told = run_process(plan);
    ASSERT_EQ(told.code, 0) << told.output;
    EXPECT_EQ(planned,
              nlohmann::json::parse(told.output).at("sharding").at("bytes_sent_a_step").get<long long>());
    EXPECT_GE(sent, planned);
    EXPECT_LE(sent, planned + 2 * 8 * (384 / 32 / 2 + kExactDigits));  // losses of micro-batches, the norm
  }
}

// Runs under the launcher, disturbed in different ways.
class Disturbed : public Ranks {
 protected:
  void SetUp() override {
    train(2, "undisturbed", overrides_);
    std::vector<std::string> words{POLAR_BINARY,     "launch", "--nproc-per-node", "2",
                                   "--max-restarts", "1",      "--grace-period",   "2"};
    std::vector<std::string> of_train = command("run", overrides_);
    of_train.insert(of_train.end(), {"distributed.timeout_seconds=3"});
    words.insert(words.end(), of_train.begin() + 1, of_train.end());
    words_ = words;
  }
  // Starts it and waits for the second checkpoint.
  std::unique_ptr<Process> start() {
    auto launcher = std::make_unique<Process>(words_);
    const auto saved = [&] { return std::filesystem::exists(checkpoint_dir(path("run"), 8)); };
    EXPECT_TRUE(launcher->wait_for(saved)) << launcher->output();
    return launcher;
  }
  pid_t worker(int rank) const { return worker_of(path("run").string(), rank); }
  void expect_the_undisturbed_result() {
    EXPECT_EQ(difference(weights("run", 40), weights("undisturbed", 40)), 0.0);
    for (const int rank : {0, 1}) EXPECT_EQ(worker(rank), 0) << "an orphan of rank " << rank;
  }

  const Overrides overrides_{"train.max_steps=40", "batch.micro_sequences=1", "checkpoint.every_steps=4",
                             "checkpoint.keep_last=0", "evaluation.every_steps=0"};
  std::vector<std::string> words_;
};

TEST_F(Disturbed, AKilledWorkerCostsTheStepsSinceTheCheckpoint) {
  const auto launcher = start();
  ASSERT_GT(worker(1), 0) << launcher->output();
  kill(worker(1), SIGKILL);
  EXPECT_EQ(launcher->wait(), 0) << launcher->output();
  EXPECT_THAT(launcher->output(), HasSubstr("SIGKILL"));
  EXPECT_THAT(launcher->output(), HasSubstr("continuing from"));
  expect_the_undisturbed_result();
}

TEST_F(Disturbed, AStoppedWorkerIsNoticed) {
  const auto launcher = start();
  ASSERT_GT(worker(1), 0) << launcher->output();
  kill(worker(1), SIGSTOP);
  EXPECT_EQ(launcher->wait(), 0) << launcher->output();
  EXPECT_THAT(launcher->output(), HasSubstr("within 3 s"));
  EXPECT_THAT(launcher->output(), HasSubstr("continuing from"));
  expect_the_undisturbed_result();
}

TEST_F(Disturbed, ATerminatedLauncherSavesAndTheRunGoesOn) {
  const auto launcher = start();
  launcher->send(SIGTERM);
  EXPECT_EQ(launcher->wait(), 3) << launcher->output();
  for (const int rank : {0, 1}) EXPECT_EQ(worker(rank), 0) << "an orphan of rank " << rank;
  const Finished again = run_process(words_);
  EXPECT_EQ(again.code, 0) << again.output;
  EXPECT_THAT(again.output, HasSubstr("continuing from"));
  expect_the_undisturbed_result();
}

TEST_F(Disturbed, ADamagedPartOfACheckpointIsNamedAndSkipped) {
  ASSERT_EQ(run_process(words_).code, 0);
  std::filesystem::remove_all(checkpoint_dir(path("run"), 40));
  const std::filesystem::path part = checkpoint_dir(path("run"), 36) / "optimizer-00002-of-00002.safetensors";
  std::filesystem::resize_file(part, std::filesystem::file_size(part) - 1);
  const Finished again = run_process(words_);
  EXPECT_EQ(again.code, 0) << again.output;
  EXPECT_THAT(again.output, HasSubstr("step-00000036 is broken and skipped: optimizer-00002-of-00002"));
  EXPECT_THAT(again.output, HasSubstr("step-00000032"));
  expect_the_undisturbed_result();
}

TEST_F(Ranks, AnotherConfigurationIsNamed) {
  Group group(2, command("run", {"train.max_steps=4", "batch.micro_sequences=1"}),
              {{1, "optimizer.groups.0.lr=0.03"}});
  for (size_t rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(group[rank].wait(), 2);
    EXPECT_THAT(group[rank].output(), HasSubstr("rank 1 does not fit: found \"      lr: 0.03"));
  }
}

TEST_F(Ranks, SequencesThatCannotBeSharedAreNamed) {
  Group group(2, command("run", {"batch.global_tokens=160", "batch.micro_sequences=1"}));
  for (size_t rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(group[rank].wait(), 2);
    EXPECT_THAT(group[rank].output(), HasSubstr("the 5 sequences of a step cannot be shared equally"));
  }
}

}  // namespace
}  // namespace polar::test

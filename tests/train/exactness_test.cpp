// Same run, same bits: twice, on one and two threads, through kill -9 and a signal; micro-batches agree.
#include <algorithm>
#include <cmath>

#include "errors.h"
#include "fixture.h"
#include "process.h"
#include "train/run.h"

namespace polar::test {
namespace {

class Exactness : public TinyRun {};

TEST_F(Exactness, TheSameRunTwiceOnOneAndOnTwoThreads) {
  for (const char* run : {"a", "b"}) ASSERT_EQ(train(experiment(run, {"run.threads=1"}), {}), ExitCode::done);
  for (const char* run : {"c", "d"}) ASSERT_EQ(train(experiment(run, {"run.threads=2"}), {}), ExitCode::done);
  for (const char* run : {"b", "c", "d"}) {
    EXPECT_EQ(state_of(run, 40), state_of("a", 40)) << run;
    EXPECT_EQ(metrics_of(run), metrics_of("a")) << run;
  }
  EXPECT_NE(state_of("a", 20), state_of("a", 40));
}

TEST_F(Exactness, AnotherSeedIsAnotherRun) {
  ASSERT_EQ(train(experiment("a", {"train.max_steps=4", "evaluation.every_steps=0"}), {}), ExitCode::done);
  ASSERT_EQ(train(experiment("b", {"train.max_steps=4", "evaluation.every_steps=0", "run.seed=6"}), {}),
            ExitCode::done);
  EXPECT_NE(metrics_of("a"), metrics_of("b"));
}

// Every optimizer keeps all of its state in the checkpoint: 20 steps, resume, 20 steps equal 40 steps.
class Resume : public TinyRun, public testing::WithParamInterface<std::vector<std::string>> {};

TEST_P(Resume, ThroughKillMinusNine) {
  std::vector<std::string> overrides = GetParam();
  overrides.push_back("run.threads=2");
  ASSERT_EQ(train(experiment("whole", overrides), {}), ExitCode::done);

  std::vector<std::string> command{POLAR_BINARY, "train", path("config.yaml").string(),
                                   "run.dir=" + path("killed").string()};
  command.insert(command.end(), overrides.begin(), overrides.end());
  const auto logged = [&] {
    std::ifstream file(path("killed") / "metrics.jsonl");
    return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
  };
  bool killed = false;
  for (int attempt = 0; attempt < 5 && !killed; ++attempt) {  // a very fast run may end before it is hit
    std::filesystem::remove_all(path("killed"));
    Process process(command);
    ASSERT_TRUE(process.wait_for([&] {
      return logged() >= 22 && std::filesystem::exists(checkpoint_dir(path("killed"), 20));
    })) << process.output();
    process.send(SIGKILL);
    killed = process.wait() == 128 + SIGKILL;
  }
  ASSERT_TRUE(killed);
  ASSERT_FALSE(std::filesystem::exists(checkpoint_dir(path("killed"), 40)));
  const Finished resumed = run_process(command);
  EXPECT_EQ(resumed.code, 0) << resumed.output;
  EXPECT_NE(resumed.output.find("continuing from"), std::string::npos);
  EXPECT_EQ(state_of("killed", 40), state_of("whole", 40));
  EXPECT_EQ(metrics_of("killed"), metrics_of("whole"));
}

INSTANTIATE_TEST_SUITE_P(
    Optimizers, Resume,
    testing::Values(std::vector<std::string>{},
                    std::vector<std::string>{"optimizer.groups.0.type=polargrad", "optimizer.groups.0.lr=1.0",
                                             "optimizer.groups.0.momentum.kind=polar_first",
                                             "data.packing=documents"},
                    std::vector<std::string>{"optimizer.groups.0.type=soap", "optimizer.groups.0.lr=3e-3",
                                             "optimizer.groups.0.precondition_frequency=3"},
                    std::vector<std::string>{"optimizer.groups.0.type=shampoo", "optimizer.groups.0.lr=3e-3",
                                             "optimizer.groups.0.precondition_frequency=3"},
                    std::vector<std::string>{"optimizer.groups.0.type=adamw", "optimizer.groups.0.lr=3e-3",
                                             "batch.micro_sequences=2"},
                    // The warm-up of the momentum goes on beyond the checkpoint.
                    std::vector<std::string>{"optimizer.groups.0.neuron_beta=0.9",
                                             "optimizer.groups.0.per_head=true",
                                             "optimizer.groups.0.cautious_decay=true",
                                             "optimizer.groups.0.momentum.warmup_steps=30",
                                             "optimizer.groups.0.oracle.preconditioning=aol"},
                    std::vector<std::string>{"optimizer.groups.0.type=lion", "optimizer.groups.0.lr=1e-3",
                                             "optimizer.groups.1.type=sgd", "optimizer.groups.1.lr=0.1"},
                    std::vector<std::string>{"optimizer.groups.0.type=signsgd", "optimizer.groups.0.lr=1e-3",
                                             "optimizer.groups.1.type=signsgd", "optimizer.groups.1.lr=1e-3",
                                             "log.diagnostics_every_steps=10"}));

TEST_F(Exactness, ASignalSavesAndTheRunGoesOnExactly) {
  ASSERT_EQ(train(experiment("whole", {"run.threads=2"}), {}), ExitCode::done);
  for (const int signal : {SIGTERM, SIGINT}) {
    const std::vector<std::string> command{POLAR_BINARY, "train", path("config.yaml").string(),
                                           "run.dir=" + path("stopped").string(), "run.threads=2"};
    bool stopped = false;
    for (int attempt = 0; attempt < 5 && !stopped; ++attempt) {
      std::filesystem::remove_all(path("stopped"));
      Process process(command);
      ASSERT_TRUE(process.wait_for([&] { return process.output().find(" 7/40") != std::string::npos; }));
      process.send(signal);
      const int code = process.wait();
      stopped = code == 3;
      if (!stopped) {
        ASSERT_EQ(code, 0) << process.output();  // it was done before the signal came
      }
    }
    ASSERT_TRUE(stopped);
    const std::vector<int64_t> steps = list_steps(path("stopped"));
    ASSERT_FALSE(steps.empty());
    EXPECT_GE(steps.back(), 7);
    EXPECT_LT(steps.back(), 40);
    EXPECT_EQ(run_process(command).code, 0);
    EXPECT_EQ(state_of("stopped", 40), state_of("whole", 40));
    EXPECT_EQ(metrics_of("stopped"), metrics_of("whole"));
  }
}

// Adam divides by the size of each gradient element and so magnifies rounding where it is tiny; the losses,
// which the weights of all steps before went into, must agree all the same.
TEST_F(Exactness, MicroBatchesOfOneTwoFourEight) {
  std::vector<double> whole;
  for (const char* micro : {"8", "4", "2", "1"}) {
    const std::string run = std::string("micro") + micro;
    ASSERT_EQ(
        train(experiment(run, {"train.max_steps=10", std::string("batch.micro_sequences=") + micro}), {}),
        ExitCode::done);
    const std::vector<double> losses = read_metrics(path(run) / "metrics.jsonl").column("loss");
    ASSERT_EQ(losses.size(), 10u);
    if (whole.empty()) whole = losses;
    for (size_t i = 0; i < losses.size(); ++i)
      EXPECT_LT(std::abs(losses[i] - whole[i]) / whole[i], 1e-6) << micro << " sequences, step " << i + 1;
  }
}

TEST_F(Exactness, AFinishedRunIsReportedAgainWithoutChange) {
  const Experiment e = experiment("a", {"train.max_steps=5"});
  ASSERT_EQ(train(e, {}), ExitCode::done);
  const std::string metrics = metrics_of("a"), state = state_of("a", 5);
  ASSERT_EQ(train(e, {}), ExitCode::done);
  EXPECT_EQ(metrics_of("a"), metrics);
  EXPECT_EQ(state_of("a", 5), state);
}

TEST_F(Exactness, AnotherConfigurationIsRefusedUnlessAskedFor) {
  ASSERT_EQ(train(experiment("a", {"train.max_steps=5"}), {}), ExitCode::done);
  const Experiment changed = experiment("a", {"train.max_steps=7"});
  const Error error = error_of([&] { train(changed, {}); });
  EXPECT_EQ(error.code(), ExitCode::bad_usage);
  EXPECT_NE(std::string(error.what()).find("train.max_steps"), std::string::npos) << error.what();
  TrainOptions options;
  options.change_config = true;
  EXPECT_EQ(train(changed, options), ExitCode::done);
  EXPECT_TRUE(std::filesystem::exists(checkpoint_dir(path("a"), 7)));
  // What the state is bound to cannot change.
  try {
    train(experiment("a", {"train.max_steps=7", "batch.global_tokens=128"}), options);
    FAIL() << "a changed batch was accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::bad_usage);
    EXPECT_NE(std::string(e.what()).find("train.init_from"), std::string::npos) << e.what();
  }
  options = {};
  options.fresh = true;
  EXPECT_EQ(train(experiment("a", {"train.max_steps=4"}), options), ExitCode::done);
  EXPECT_TRUE(std::filesystem::exists(checkpoint_dir(path("a.old-1"), 7)));
}

}  // namespace
}  // namespace polar::test

// `polartrain sweep` as a user meets it: real runs, cut, failing, diverging, changed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "process.h"
#include "report/metrics.h"
#include "temporary.h"

namespace polar::sweep {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class Sweep : public testing::Test {
 protected:
  void SetUp() override {
    test::put(path("text.txt"),
              read_file(fs::path(POLAR_SOURCE_DIR) / "data/austen/northanger_abbey.txt").substr(0, 30'000));
    const test::Finished data =
        test::run_process({POLAR_BINARY, "data", "prepare", path("text.txt"), "--output", path("tokens"),
                           "--tokenizer", "bytes", "--validation-fraction", "0.1"});
    ASSERT_EQ(data.code, 0) << data.output;
    test::put(
        path("config.yaml"),
        "run: {name: tiny, seed: 5, device: cpu}\n"
        "model: {architecture: qwen2, vocab_size: 257, hidden_size: 32, num_hidden_layers: 1,\n"
        "        num_attention_heads: 2, num_key_value_heads: 1, intermediate_size: 32}\n"
        "batch: {global_tokens: 64}\n"
        "optimizer: {groups: [{match: ['*'], type: adamw, lr: 1.0e-3}]}\n"
        "train: {max_steps: 30}\nevaluation: {sequences: 8}\nlog: {every_steps: 1, tensorboard: false}\n"
        "data: {sequence_length: 32, tokenizer: bytes, train: [{path: " +
            path("tokens") + "/train-*.bin}], validation: [{path: " + path("tokens") + "/val-*.bin}]}\n");
  }
  std::string path(const std::string& name) const { return directory_ / name; }

  std::vector<std::string> command(const std::string& output, const std::vector<std::string>& more) const {
    std::vector<std::string> words{POLAR_BINARY, "sweep",      path("config.yaml"),
                                   "--output",   path(output), "--threads",
                                   "1",          "--jobs",     "2"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  test::Finished sweep(const std::string& output, const std::vector<std::string>& more) const {
    return test::run_process(command(output, more));
  }
  nlohmann::json results(const std::string& output) const {
    return nlohmann::json::parse(read_file(path(output + "/sweep.json")));
  }
  // What the runs of a sweep have come to, without what depends on the clock.
  std::string bits_of(const std::string& output, const std::vector<std::string>& runs, int steps) const {
    std::string all;
    for (const std::string& run : runs) {
      const fs::path directory = fs::path(path(output)) / run;
      std::ifstream file(directory / "metrics.jsonl");
      for (std::string line; std::getline(file, line);) all += deterministic_part(line) + "\n";
      all += read_file(directory / fmt::format("checkpoints/step-{:08}/model.safetensors", steps));
    }
    return all;
  }
  test::TemporaryDirectory directory_;
};

TEST_F(Sweep, RanksAndIsNotRunAgain) {
  const std::vector<std::string> arguments{"--grid", "optimizer.groups.0.lr=1e-5,1e-2", "--seeds", "2"};
  const test::Finished first = sweep("s", arguments);
  ASSERT_EQ(first.code, 0) << first.output;
  EXPECT_THAT(first.output, HasSubstr("[4/4]"));
  const auto json = results("s");
  ASSERT_EQ(json["points"].size(), 2u);
  EXPECT_EQ(json["points"][0]["name"], "lr=1e-2");  // 30 steps at 1e-5 teach nothing
  EXPECT_EQ(json["points"][0]["rank"], 1);
  double sum = 0.0;
  for (const char* run : {"lr=1e-2/seed-5", "lr=1e-2/seed-6"})
    sum += read_metrics(fs::path(path("s")) / run / "metrics.jsonl").column("val_loss").back();
  EXPECT_DOUBLE_EQ(json["points"][0]["val_loss"]["mean"].get<double>(), sum / 2.0);
  EXPECT_THAT(read_file(path("s/sweep.md")), HasSubstr("| 1    | 1e-2 |"));

  const test::Finished again = sweep("s", arguments);
  EXPECT_EQ(again.code, 0);
  EXPECT_THAT(again.output, AllOf(HasSubstr("4 of them finished before"), Not(HasSubstr("seed 5:"))));
  EXPECT_EQ(results("s"), json);

  EXPECT_THAT(read_file(path("s/sweep.html")), HasSubstr("lr=1e-5/seed-6/report.html"));
  const test::Finished compared =
      test::run_process({POLAR_BINARY, "sweep", "--compare", path("s"), "--output", path("c")});
  EXPECT_EQ(compared.code, 0) << compared.output;
  EXPECT_THAT(read_file(path("c/comparison.md")), HasSubstr("| s     | lr 1e-2 |"));
  EXPECT_TRUE(fs::exists(path("c/comparison.json")));
  EXPECT_EQ(test::run_process({POLAR_BINARY, "sweep", "--compare", path("none")}).code, 2);

  ASSERT_EQ(sweep("longer", {"train.max_steps=40"}).code, 0);
  std::vector<std::string> compare{POLAR_BINARY, "sweep", "--compare", path("s"), path("longer")};
  const test::Finished refused = test::run_process(compare);
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.output, HasSubstr("s -> longer: tokens of a run: 1920 -> 2560"));
  compare.push_back("--allow-differences");
  const test::Finished allowed = test::run_process(compare);
  EXPECT_EQ(allowed.code, 0);
  EXPECT_THAT(allowed.output, HasSubstr("* not comparable: s -> longer: tokens of a run: 1920 -> 2560"));
}

TEST_F(Sweep, CutAtAnyTimeItGoesOnToTheSameBits) {
  const std::vector<std::string> arguments{"--grid", "optimizer.groups.0.lr=1e-3,1e-2",
                                           "train.max_steps=3000", "checkpoint.every_steps=50"};
  const std::vector<std::string> runs{"lr=1e-3/seed-5", "lr=1e-2/seed-5"};
  ASSERT_EQ(sweep("whole", arguments).code, 0);

  const auto started = [&] { return fs::exists(path("cut/lr=1e-3/seed-5/checkpoints/step-00000050")); };
  {
    test::Process process(command("cut", arguments));
    ASSERT_TRUE(process.wait_for(started)) << process.output();
    // A second sweep beside it.
    const test::Finished second = sweep("cut", arguments);
    EXPECT_EQ(second.code, 2);
    EXPECT_THAT(second.output, HasSubstr("another sweep is running in"));
    process.send(SIGTERM);
    EXPECT_EQ(process.wait(), 3) << process.output();
    EXPECT_THAT(process.output(),
                AllOf(HasSubstr("stopped at step"), HasSubstr("have no result: 2 stopped")));
  }
  {
    test::Process process(command("cut", arguments));
    ASSERT_TRUE(process.wait_for([&] { return results("cut")["points"].size() == 2; }));
    process.send(SIGKILL);
    process.wait();
  }
  // Its runs are told by the kernel, and hold the lock until they have ended.
  test::Finished last = sweep("cut", arguments);
  for (int i = 0; i < 200 && last.code == 2; ++i) {
    EXPECT_THAT(last.output, HasSubstr("its runs have not ended yet"));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    last = sweep("cut", arguments);
  }
  EXPECT_EQ(last.code, 0) << last.output;
  EXPECT_EQ(bits_of("cut", runs, 3000), bits_of("whole", runs, 3000));
}

TEST_F(Sweep, ADivergingPointIsAResultAndDoesNotStopTheOthers) {
  const std::vector<std::string> arguments{"--grid", "optimizer.groups.0.lr=1e30,1e-3",
                                           "guard.max_consecutive_skips=4"};
  const test::Finished first = sweep("s", arguments);
  EXPECT_EQ(first.code, 0) << first.output;
  EXPECT_THAT(first.output,
              AllOf(HasSubstr("lr=1e30 seed 5: diverged"), HasSubstr("1 of 2 runs has no result")));
  const auto json = results("s");
  EXPECT_EQ(json["points"][0]["name"], "lr=1e-3");
  EXPECT_EQ(json["points"][1]["rank"], 0);
  EXPECT_EQ(json["points"][1]["runs"][0]["exit_code"], 4);
  EXPECT_THAT(sweep("s", arguments).output, HasSubstr("2 of them finished before"));
}

TEST_F(Sweep, AFailedRunIsTriedAgain) {
  const std::vector<std::string> arguments{"--grid", "optimizer.groups.0.lr=1e-3,1e-2"};
  test::put(path("s/lr=1e-3/seed-5"), "in the way");
  const test::Finished first = sweep("s", arguments);
  EXPECT_EQ(first.code, 1) << first.output;
  EXPECT_THAT(first.output,
              AllOf(HasSubstr("FAILED (exit code 2): run.dir: "), HasSubstr("is not a directory"),
                    HasSubstr("1 of 2 runs has no result: 1 failed")));
  fs::remove(path("s/lr=1e-3/seed-5"));
  const test::Finished second = sweep("s", arguments);
  EXPECT_EQ(second.code, 0) << second.output;
  EXPECT_THAT(second.output, HasSubstr("1 of them finished before"));
}

TEST_F(Sweep, MistakesAreSaidBeforeAnythingIsRun) {
  const auto refused = [&](const std::vector<std::string>& arguments, const std::string& message) {
    const test::Finished finished = sweep("s", arguments);
    EXPECT_EQ(finished.code, 2) << finished.output;
    EXPECT_THAT(finished.output, HasSubstr(message));
    EXPECT_FALSE(fs::exists(path("s")));
  };
  refused({"--grid", "optimizer.groups.0.lrr=1e-3,1e-2"}, "did you mean 'lr'?");
  refused({"--grid", "optimizer.groups.0.lr=1e-3,fast"}, "'fast'");
  refused({"--grid", "optimizer.groups.0.lr=1e-3,0.001"}, "are the same configuration");
  refused({"--grid", "train.max_steps"}, "found no '='");
  refused({"data.validation=[]"}, "data.validation is empty");
  refused({"--seeds", "0"}, "--seeds");
}

TEST_F(Sweep, OtherArgumentsForTheSameDirectoryAreNamed) {
  ASSERT_EQ(sweep("s", {"--grid", "optimizer.groups.0.lr=1e-3", "train.max_steps=2"}).code, 0);
  const auto refused = [&](const std::vector<std::string>& arguments, const std::string& message) {
    const test::Finished finished = sweep("s", arguments);
    EXPECT_EQ(finished.code, 2) << finished.output;
    EXPECT_THAT(finished.output, AllOf(HasSubstr("holds another sweep"), HasSubstr(message)));
  };
  const std::string same = "optimizer.groups.0.lr=1e-3", more = "optimizer.groups.0.lr=2e-3,1e-3";
  refused({"--grid", same, "train.max_steps=3"}, "train.max_steps: 2 -> 3");
  refused({"--grid", same, "train.max_steps=2", "run.seed=6"}, "run.seed: 5 -> 6");
  refused({"--grid", same, "train.max_steps=2", "--seeds", "2"}, "--seeds: 1 -> 2");
  refused({"--grid", more, "train.max_steps=2"}, "--grid optimizer.groups.0.lr: 1e-3 -> 2e-3, 1e-3");
  refused({"train.max_steps=2"}, "--grid optimizer.groups.0.lr: 1e-3 -> none");
  refused({"--grid", "optimizer.groups.0.lr=2e-3", "--extend", "train.max_steps=2"}, "1e-3 -> 2e-3");
  // Points are named in the order of the grids: in another one nothing would be found again.
  ASSERT_EQ(sweep("two", {"--grid", same, "--grid", "optimizer.clip_norm=1", "train.max_steps=1"}).code, 0);
  const test::Finished turned =
      sweep("two", {"--grid", "optimizer.clip_norm=1", "--grid", same, "train.max_steps=1"});
  EXPECT_EQ(turned.code, 2);
  EXPECT_THAT(turned.output, HasSubstr("the order of the grids: optimizer.groups.0.lr came first"));
  const test::Finished extended =
      sweep("s", {"--grid", more, "--seeds", "2", "--extend", "train.max_steps=2"});
  EXPECT_EQ(extended.code, 0) << extended.output;
  EXPECT_THAT(extended.output, HasSubstr("= 4 runs, 1 of them finished before"));
}

TEST_F(Sweep, DryRunListsThePoints) {
  const test::Finished finished =
      sweep("s", {"--grid", "optimizer.groups.0.betas=[0.9,0.95],[0.8,0.95]", "--seeds", "3", "--dry-run"});
  EXPECT_EQ(finished.code, 0);
  EXPECT_THAT(finished.output, AllOf(HasSubstr("s/betas=[0.8,0.95]  optimizer.groups.0.betas=[0.8,0.95]\n"),
                                     HasSubstr("2 points x 3 seeds = 6 runs")));
  EXPECT_FALSE(fs::exists(path("s")));
}

}  // namespace
}  // namespace polar::sweep

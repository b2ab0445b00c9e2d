// `polartrain launch train`: a run that was killed goes on from its last good checkpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launching.h"

namespace polar::launch {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// A run of 2000 steps with a checkpoint every 20.
class LaunchedTraining : public testing::Test {
 protected:
  void SetUp() override {
    test::put(path("text.txt"),
              read_file(fs::path(POLAR_SOURCE_DIR) / "data/austen/northanger_abbey.txt").substr(0, 30'000));
    const test::Finished data = test::run_process({POLAR_BINARY, "data", "prepare", path("text.txt"),
                                                   "--output", path("tokens"), "--tokenizer", "bytes"});
    ASSERT_EQ(data.code, 0) << data.output;
    test::put(
        path("config.yaml"),
        "run: {name: tiny, threads: 1}\n"
        "model: {architecture: qwen2, vocab_size: 257, hidden_size: 32, num_hidden_layers: 1,\n"
        "        num_attention_heads: 2, num_key_value_heads: 1, intermediate_size: 32}\n"
        "batch: {global_tokens: 64}\n"
        "optimizer: {groups: [{match: ['*'], type: adamw, lr: 1.0e-3}]}\n"
        "train: {max_steps: 2000}\ncheckpoint: {every_steps: 20, keep_last: 0}\nlog: {every_steps: 20}\n"
        "data: {sequence_length: 32, tokenizer: bytes, train: [{path: " +
            path("tokens") + "/train-*.bin}]}\n");
  }
  std::string path(const std::string& name) const { return directory_ / name; }
  std::vector<std::string> training(const std::string& run, std::vector<std::string> flags) const {
    flags.insert(flags.end(), {"train", path("config.yaml"), "run.dir=" + path(run)});
    return flags;
  }
  std::string weights(const std::string& run) const {
    return read_file(directory_ / run / "checkpoints/step-00002000/model.safetensors");
  }
  // Kills the worker once it has saved a checkpoint.
  static void kill_after_saving(const Launcher& launcher, const fs::path& run) {
    ASSERT_TRUE(eventually([&] { return fs::exists(run / "checkpoints/step-00000020"); }, 60))
        << launcher.output();
    const std::vector<pid_t> workers = launcher.processes("RANK=0");
    ASSERT_EQ(workers.size(), 1u);
    kill(workers[0], SIGKILL);
  }

  const test::TemporaryDirectory directory_;
};

TEST_F(LaunchedTraining, GoesOnAfterKillWithTheSameResult) {
  const Launched undisturbed = launch(training("undisturbed", {"--nproc-per-node", "1"}));
  ASSERT_EQ(undisturbed.code, 0) << undisturbed.output;

  // An earlier run in the folder; --fresh must put it aside once, and not what its own first attempt has
  // saved.
  fs::create_directories(directory_ / "killed/checkpoints");
  std::vector<std::string> arguments = training("killed", {"--nproc-per-node", "1", "--max-restarts", "1"});
  arguments.push_back("--fresh");
  Launcher launcher(arguments);
  kill_after_saving(launcher, directory_ / "killed");
  EXPECT_EQ(launcher.wait(), 0) << launcher.output();
  EXPECT_THAT(launcher.output(), AllOf(HasSubstr("signal 9 (SIGKILL)"), HasSubstr("restart 1 of 1"),
                                       HasSubstr("[0] continuing from ")));
  EXPECT_TRUE(fs::exists(directory_ / "killed.old-1"));
  EXPECT_FALSE(fs::exists(directory_ / "killed.old-2"));
  EXPECT_TRUE(weights("killed") == weights("undisturbed"));
  EXPECT_TRUE(launcher.all_gone(0));
}

TEST_F(LaunchedTraining, SavesAndStopsOnSigterm) {
  std::vector<std::string> words = training("stopped", {"--max-restarts", "1", "--nproc-per-node", "1"});
  words.emplace_back("train.max_steps=1000000");  // it must not end by itself before
  Launcher launcher(words);
  ASSERT_TRUE(eventually([&] { return fs::exists(directory_ / "stopped/checkpoints/step-00000020"); }, 60));
  launcher.send(SIGTERM);
  EXPECT_EQ(launcher.wait(), 3) << launcher.output();
  EXPECT_THAT(launcher.output(), AllOf(HasSubstr("[0] signal 15: saving step"), Not(HasSubstr("restart"))));
  EXPECT_TRUE(launcher.all_gone(0));
}

}  // namespace
}  // namespace polar::launch

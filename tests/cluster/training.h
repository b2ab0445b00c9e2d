// Tiny runs of several ranks, started by launchers, disturbed, and compared with one that nobody disturbed.
#pragma once

#include <gmock/gmock.h>

#include <algorithm>
#include <memory>
#include <set>

#include "launch/launching.h"
#include "train/fixture.h"

namespace polar::test {

using launch::eventually;
using launch::Launcher;

class ClusterTraining : public TinyRun {
 protected:
  using Words = std::vector<std::string>;
  static constexpr int64_t kSteps = 12;  // with a checkpoint after every second one

  // `train` and what follows it.
  Words training(const std::string& run, const Words& overrides = {}) const {
    Words words{"train",
                path("config.yaml").string(),
                "run.dir=" + path(run).string(),
                "run.device=cpu",
                "batch.global_tokens=384",  // 12 sequences
                "batch.micro_sequences=3",
                "optimizer.clip_norm=0.5",
                "train.max_steps=" + std::to_string(kSteps),
                "checkpoint.every_steps=2",
                "evaluation.every_steps=0"};
    words.insert(words.end(), overrides.begin(), overrides.end());
    return words;
  }
  // The arguments of a launcher.
  Words launching(Words flags, const std::string& run, const Words& overrides = {}) const {
    for (const std::string& word : training(run, overrides)) flags.push_back(word);
    return flags;
  }
  // A program instead of polartrain, under which `"$@"` is the training.
  Words launching_script(Words flags, const std::string& script, const std::string& run) const {
    flags.insert(flags.end(), {"--", "/bin/sh", "-c", script, "sh", POLAR_BINARY});
    return launching(flags, run);
  }

  // Starts it; `fault`: of POLAR_TEST_FAULT (faulty/make_ops.cpp), none: polartrain as it is.
  static std::unique_ptr<Launcher> start(const Words& arguments, const std::string& fault = "") {
    return std::make_unique<Launcher>(arguments, variables(fault), "", Words{}, launcher(fault));
  }
  static Words variables(const std::string& fault) {
    Words words{"OMP_NUM_THREADS=1"};
    if (!fault.empty()) words.push_back("POLAR_TEST_FAULT=" + fault);
    return words;
  }
  static Words launcher(const std::string& fault) {
    return {fault.empty() ? POLAR_BINARY : POLAR_FAULTY_BINARY, "launch"};
  }
  // It has ended with this code, and nobody is left.
  static void expect_end(Launcher& launcher, int code) {
    EXPECT_EQ(launcher.wait(), code) << launcher.output();
    EXPECT_TRUE(launcher.all_gone(0)) << launcher.output();
  }

  // The run that the others are compared with, and one that was disturbed started again.
  void run_undisturbed(int ranks, const std::string& run = "undisturbed") {
    const auto all = start(launching({"--nproc-per-node", std::to_string(ranks)}, run));
    expect_end(*all, 0);
  }

  std::string checkpoint(const std::string& run, int64_t step) const {
    return checkpoint_dir(path(run), step).string();
  }
  // The steps of its checkpoints, every one of which must be whole; nothing half done beside them.
  std::vector<int64_t> checkpoints(const std::string& run) const {
    for (const int64_t step : list_steps(path(run)))
      EXPECT_EQ(describe(verify(checkpoint_dir(path(run), step))), "") << step;
    return list_steps(path(run));
  }
  // Weights, optimizer state and counters of the last checkpoint, and every logged step, bit for bit.
  void expect_the_undisturbed_result(const std::string& run, const std::string& want = "undisturbed") const {
    const std::set<std::string> files = files_of(want);
    EXPECT_FALSE(files.empty());
    EXPECT_EQ(files_of(run), files);
    for (const std::string& file : files)
      if (file != "config.yaml" && file != "manifest.json") {  // which hold the run's path
        EXPECT_TRUE(content(run, file) == content(want, file)) << file << " differs";
      }
    EXPECT_EQ(metrics_of(run), metrics_of(want));
    const std::vector<int64_t> steps = checkpoints(run), all = checkpoints(want);
    EXPECT_TRUE(std::includes(steps.begin(), steps.end(), all.begin(), all.end())) << "checkpoints are lost";
    for (const auto& entry : std::filesystem::directory_iterator(checkpoints_dir(path(run))))
      EXPECT_FALSE(entry.path().filename().string().starts_with('.')) << entry.path() << " is left over";
  }
  std::vector<double> losses(const std::string& run) const {
    return read_metrics(path(run) / "metrics.jsonl").column("loss");
  }

 private:
  std::set<std::string> files_of(const std::string& run) const {
    std::set<std::string> names;
    if (!std::filesystem::is_directory(checkpoint(run, kSteps))) return names;
    for (const auto& entry : std::filesystem::directory_iterator(checkpoint(run, kSteps)))
      names.insert(entry.path().filename().string());
    return names;
  }
  std::string content(const std::string& run, const std::string& file) const {
    const std::filesystem::path full = std::filesystem::path(checkpoint(run, kSteps)) / file;
    return std::filesystem::exists(full) ? read_file(full) : "(missing)";
  }
};

}  // namespace polar::test

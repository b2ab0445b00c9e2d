// polartrain lab as a user meets it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "process.h"
#include "temporary.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

Finished lab(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {command_under_test(POLAR_BINARY), "lab"});
  return run_process(std::move(arguments));
}

TEST(LabCommand, RunsAProblemAndWritesWhatItFound) {
  const TemporaryDirectory directory;
  const std::string output = (directory.path() / "out").string();
  const Finished run = lab({"completion",
                            "--suite",
                            "paper",
                            "--backend",
                            "cpu",
                            "-m",
                            "30",
                            "-n",
                            "20",
                            "--rank",
                            "2",
                            "--share",
                            "0.7",
                            "--steps",
                            "12",
                            "--every",
                            "5",
                            "--seeds",
                            "2",
                            "--lr",
                            "3",
                            "--only",
                            "momentum first",
                            "--only",
                            "Alternating",
                            "--output",
                            output});
  ASSERT_EQ(run.code, 0) << run.output;
  EXPECT_THAT(run.output, HasSubstr("| PolarGrad, momentum first, decay | 3 |"));
  EXPECT_THAT(run.output, HasSubstr("| Alternating gradient descent | 3 |"));
  EXPECT_THAT(run.output, Not(HasSubstr("Muon")));
  for (const char* name : {"completion.json", "completion.md", "completion.html", "completion.png"})
    EXPECT_TRUE(fs::exists(fs::path(output) / name)) << name;
  const nlohmann::json json = nlohmann::json::parse(read_file(fs::path(output) / "completion.json"));
  EXPECT_EQ(json["runs"].size(), 6u);
  EXPECT_EQ(json["sizes"]["rank"], 2);
  EXPECT_EQ(json["runs"][0]["step"].back(), 12);
}

TEST(LabCommand, TheSameSeedsGiveTheSameNumbers) {
  const TemporaryDirectory directory;
  const auto run = [&](const std::string& name, const std::string& threads) {
    const std::string output = (directory.path() / name).string();
    const Finished done = lab(
        {"logistic", "--rows",   "60",  "-m",       "8",   "-n",           "4", "-q",     "12",   "--batch",
         "10",       "--steps",  "6",   "--seeds",  "1",   "--first-seed", "5", "--only", "Adam", "--threads",
         threads,    "--device", "cpu", "--output", output});
    EXPECT_EQ(done.code, 0) << done.output;
    return nlohmann::json::parse(read_file(fs::path(output) / "logistic.json"))["runs"];
  };
  EXPECT_EQ(run("one", "1"), run("two", "2"));
}

TEST(LabCommand, DrawsAsPyTorchDoes) {
  const TemporaryDirectory directory;
  const auto run = [&](const std::string& draw) {
    const std::string output = (directory.path() / draw).string();
    const Finished done =
        lab({"completion", "-m",       "30",   "-n",           "20",          "--rank",    "2", "--steps",
             "2",          "--seeds",  "1",    "--only",       "Alternating", "--threads", "1", "--device",
             "cpu",        "--output", output, "--first-seed", "42",          "--draw",    draw});
    EXPECT_EQ(done.code, 0) << done.output;
    EXPECT_THAT(done.output,
                HasSubstr(draw == "torch" ? "PyTorch's CPU generator, seed 42" : "PolarTrain's"));
    return nlohmann::json::parse(read_file(fs::path(output) / "completion.json"));
  };
  const nlohmann::json torch = run("torch"), own = run("polartrain");
  EXPECT_EQ(torch["draw"], "torch");
  EXPECT_EQ(own["draw"], "polartrain");
  EXPECT_NE(torch["runs"][0]["gap"][0], own["runs"][0]["gap"][0]);
  const Finished mixed = lab({"join", (directory.path() / "torch/completion.json").string(),
                              (directory.path() / "polartrain/completion.json").string()});
  EXPECT_EQ(mixed.code, 2);
  EXPECT_THAT(mixed.output, HasSubstr("found draws by polartrain, expected draws by torch"));
}

TEST(LabCommand, ListsTheSettings) {
  const Finished list = lab({"all", "--list", "--only", "Muon, QDWH"});
  EXPECT_EQ(list.code, 0);
  EXPECT_THAT(list.output, HasSubstr("section 6.1"));
  EXPECT_THAT(list.output, HasSubstr("section 6.2"));
  EXPECT_THAT(list.output, HasSubstr("section 6.3"));
  EXPECT_THAT(list.output, HasSubstr("momentum first 0.95 nesterov, qdwh 2 refined"));
  EXPECT_THAT(list.output, Not(HasSubstr("Newton")));
  EXPECT_FALSE(fs::exists("runs/lab"));
}

TEST(LabCommand, BadArgumentsAreNamed) {
  const auto refused = [](std::vector<std::string> arguments, const std::string& word) {
    const Finished run = lab(std::move(arguments));
    EXPECT_EQ(run.code, 2) << run.output;
    EXPECT_THAT(run.output, HasSubstr(word));
  };
  refused({}, "subcommand");
  refused({"cubic"}, "subcommand");
  refused({"join"}, "FILE");
  refused({"join", "/nowhere.json"}, "/nowhere.json");
  refused({"quadratic", "--only", "Mion"}, "Muon, NS5");
  refused({"quadratic", "--steps", "0"}, "--steps");
  refused({"quadratic", "--lr", "-1"}, "--lr");
  refused({"quadratic", "--suite", "own"}, "paper");
  refused({"quadratic", "--draw", "numpy"}, "polartrain,torch");
  refused({"completion", "--share", "2"}, "--share");
  refused({"completion", "-m", "4", "-n", "4", "--rank", "5"}, "rank 5");
  refused({"logistic", "--rows", "5", "-m", "8"}, "5 rows");
}

}  // namespace
}  // namespace polar::test

// Ranking and spread of results that are known, and the file that keeps them.
#include "sweep/results.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "sweep/sample.h"
#include "sweep/table.h"
#include "temporary.h"

namespace polar::sweep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::vector<size_t> order(const Results& results) {
  std::vector<size_t> points;
  for (const Ranked& ranked : ranking(results)) points.push_back(ranked.point);
  return points;
}

std::vector<size_t> ranks(const Results& results) {
  std::vector<size_t> numbers;
  for (const Ranked& ranked : ranking(results)) numbers.push_back(ranked.rank);
  return numbers;
}

TEST(Spread, OfThreeSeeds) {
  const std::optional<Spread> spread =
      spread_of({done(1, 4.0), done(2, 6.0), done(3, 5.0), other(4, State::failed)});
  ASSERT_TRUE(spread);
  EXPECT_EQ(spread->count, 3u);
  EXPECT_DOUBLE_EQ(spread->mean, 5.0);
  EXPECT_DOUBLE_EQ(spread->deviation, 1.0);  // n - 1
  EXPECT_EQ(spread->low, 4.0);
  EXPECT_EQ(spread->high, 6.0);
}

TEST(Spread, OfOneAndOfNone) {
  EXPECT_EQ(spread_of({done(1, 4.0)})->deviation, 0.0);
  EXPECT_FALSE(spread_of({other(1, State::diverged), RunResult{}}));
}

TEST(Ranking, ByTheMean) {
  const Results results{
      {{done(1, 3.0), done(2, 5.0)}, {done(1, 3.5), done(2, 3.6)}, {done(1, 9.0), done(2, 1.0)}}};
  EXPECT_THAT(order(results), ElementsAre(1, 0, 2));
  EXPECT_THAT(ranks(results), ElementsAre(1, 2, 3));
}

// A point that has lost a seed is not ranked, however good the others are.
TEST(Ranking, WhatIsNotWholeComesLastWithoutARank) {
  const Results results{{{done(1, 1.0), other(2, State::diverged), done(3, 1.0)},
                         {RunResult{}, RunResult{}, RunResult{}},
                         {done(1, 1.0), other(2, State::failed), RunResult{}},
                         {done(1, 4.0), done(2, 4.0), done(3, 4.0)}}};
  EXPECT_THAT(order(results), ElementsAre(3, 0, 2, 1));
  EXPECT_THAT(ranks(results), ElementsAre(1, 0, 0, 0));
}

TEST(Table, SaysWhatIsMissingAndWhy) {
  const Definition d = definition({"a.lr=1e-3,2e-3", "a.betas=[0.9,0.95]"}, 2, 5);
  const std::string whole = table_of(d, {{{done(5, 4.0), done(6, 4.5)}, {done(5, 3.0), done(6, 3.125)}}});
  EXPECT_THAT(whole,
              HasSubstr("| 1    | 2e-3 | [0.9,0.95] |    3.0625 |    0.0884 | 3.0000 |  3.1250 |   2/2 |"));
  EXPECT_THAT(whole, Not(HasSubstr("no result")));
  const std::string cut =
      table_of(d, {{{done(5, 4.0), other(6, State::diverged)}, {RunResult{}, RunResult{}}}});
  EXPECT_THAT(cut,
              HasSubstr("| -    | 1e-3 | [0.9,0.95] |    4.0000 |         - | 4.0000 |  4.0000 |   1/2 |"));
  EXPECT_THAT(cut, HasSubstr("3 of 4 runs have no result: 1 diverged, 2 pending"));
  EXPECT_THAT(cut, HasSubstr("seed 6: diverged at step 7 (exit code 4): what it said"));
}

class Files : public testing::Test {
 protected:
  std::filesystem::path path(const std::string& name) const { return directory_ / name; }
  RunResult read(const std::string& metrics, int exit_code) const {
    test::put(path("run/metrics.jsonl"), metrics);
    RunResult result;
    result.message = "last words";
    read_run(path("run"), 20, 64, exit_code, result);
    return result;
  }
  test::TemporaryDirectory directory_;
};

constexpr const char* kLine10 = R"({"step":10,"tokens":640,"loss":3.0,"val_loss":2.5,"tokens_per_s":128})"
                                "\n";

TEST_F(Files, ARunIsDoneWithAValidationLossAtTheLastStep) {
  const RunResult run = read(
      std::string(kLine10) +
          R"({"step":20,"tokens":1280,"loss":2.0,"val_loss":2.25,"val_bits_per_byte":1.5,"tokens_per_s":128})"
          "\n",
      0);
  EXPECT_EQ(run.state, State::done);
  EXPECT_EQ(*run.val_loss, 2.25);
  EXPECT_EQ(*run.bits_per_byte, 1.5);
  EXPECT_EQ(*run.step_seconds, 0.5);
  EXPECT_EQ(run.steps, 20);
  EXPECT_EQ(run.message, "");
}

TEST_F(Files, HowARunHasEnded) {
  const std::string at_end = R"({"step":20,"tokens":1280,"loss":2.0,"val_loss":)";
  EXPECT_EQ(read(at_end + "\"nan\"}\n", 0).state, State::diverged);
  EXPECT_EQ(read(at_end + "\"inf\"}\n", 0).state, State::diverged);
  EXPECT_EQ(read(kLine10, 4).state, State::diverged);
  EXPECT_EQ(read(kLine10, 3).state, State::stopped);
  EXPECT_EQ(read(kLine10, 0).state, State::failed);    // it says that it is done, and is not
  EXPECT_EQ(read(kLine10, 137).state, State::failed);  // killed
  EXPECT_EQ(read(at_end + "2.5}\n", 1).state, State::failed);
  EXPECT_EQ(read("{broken\n", 0).state, State::failed);
  EXPECT_THAT(read("{broken\n", 0).message, HasSubstr("metrics.jsonl:1"));
  EXPECT_FALSE(read(kLine10, 0).val_loss);  // that of step 10 is not the final one
  EXPECT_EQ(read(kLine10, 0).message, "last words");
}

TEST_F(Files, ResultsComeBackWithAllTheirDigits) {
  const Definition d = definition({"a.lr=1e-3,2e-3"}, 2, 5);
  Results results{{{done(5, 1.0 / 3.0), other(6, State::diverged)}, {done(5, 4.0), RunResult{}}}};
  results.points[0][0].step_seconds = 1.0 / 7.0;
  results.points[1][1].seed = 6;
  test::put(path("sweep.json"), to_json(d, results));
  const Results read = load_results(directory_.path(), d);
  EXPECT_EQ(*read.points[0][0].val_loss, 1.0 / 3.0);
  EXPECT_EQ(*read.points[0][0].step_seconds, 1.0 / 7.0);
  EXPECT_EQ(read.points[0][1].state, State::diverged);
  EXPECT_EQ(read.points[0][1].message, "what it said");
  EXPECT_EQ(read.points[1][1].state, State::pending);
  EXPECT_EQ(read.points[1][1].seed, 6u);
  const auto json = nlohmann::json::parse(read_file(path("sweep.json")));
  EXPECT_EQ(json["points"][0]["values"]["lr"], "1e-3");  // two of its seeds have ended, one of the other's
}

TEST_F(Files, ADamagedFileIsAnErrorThatSaysWhatToDo) {
  for (const char* text :
       {"", "{", "[]", R"({"format":"polartrain sweep 0"})", R"({"format":"polartrain sweep 1"})"}) {
    test::put(path("sweep.json"), text);
    try {
      load_results(directory_.path(), definition({}, 1, 5));
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("put the directory aside")) << text;
    }
  }
}

}  // namespace
}  // namespace polar::sweep

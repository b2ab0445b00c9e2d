// Several sweeps in one table, from results that are known.
#include "sweep/compare.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "sweep/sample.h"
#include "temporary.h"

namespace polar::sweep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;
using testing::UnorderedElementsAre;

RunResult run(double loss, double step_seconds, double cpu_seconds) {
  RunResult run = done(1, loss);
  run.step_seconds = step_seconds;
  run.cpu_seconds = cpu_seconds;
  return run;
}

Compared sweep(const std::string& name, const std::vector<std::string>& grids,
               const std::vector<std::vector<RunResult>>& points) {
  return {name, definition(grids, static_cast<int64_t>(points.front().size())), {points}, Experiment{}};
}

// The rates are not in order, as somebody may have written them.
const Compared kFirst = sweep("first", {"o.lr=4e-3,1e-3,2e-3"},
                              {{run(5.5, 0.1, 11), run(5.5, 0.1, 10)},
                               {run(5.25, 0.1, 10), run(5.25, 0.1, 12)},
                               {run(4.5, 0.1, 14), run(5.5, 0.3, 11)}});
const Compared kSecond =
    sweep("second", {"o.lr=1,2", "o.beta=0.9,0.5"},
          {{run(4.0, 0.2, 33)}, {run(4.25, 0.2, 33)}, {other(1, State::diverged)}, {run(4.5, 0.2, 33)}});

TEST(Compare, NeighboursAreThoseNextInSize) {
  const Summary summary = summarize(kFirst);
  ASSERT_TRUE(summary.best);
  EXPECT_EQ(summary.best->spread->mean, 5.0);
  ASSERT_EQ(summary.sensitivities.size(), 1u);
  EXPECT_EQ(summary.sensitivities[0].best, "2e-3");
  EXPECT_EQ(summary.sensitivities[0].below->value, "1e-3");
  EXPECT_EQ(*summary.sensitivities[0].below->penalty, 0.25);
  EXPECT_EQ(summary.sensitivities[0].above->value, "4e-3");
  EXPECT_EQ(*summary.sensitivities[0].above->penalty, 0.5);
}

TEST(Compare, EndsOfGridsAndDivergedNeighboursAreSaid) {
  const Summary summary = summarize(kSecond);
  ASSERT_EQ(summary.sensitivities.size(), 2u);
  EXPECT_FALSE(summary.sensitivities[0].below);
  EXPECT_FALSE(summary.sensitivities[0].above->penalty);
  EXPECT_EQ(summary.sensitivities[0].above->why_not, "diverged");
  EXPECT_EQ(*summary.sensitivities[1].below->penalty, 0.25);
  EXPECT_FALSE(summary.sensitivities[1].above);
}

TEST(Compare, TheTableIsOrderedByLossAndRelatesCostsToTheFirst) {
  const std::string table = comparison_table({kFirst, kSecond});
  const size_t first = table.find("| first "), second = table.find("| second ");
  EXPECT_LT(second, first);
  EXPECT_THAT(table.substr(first), HasSubstr("5.0000 ± 0.7071 |  4.5000 to 5.5000 |     2 |"));
  EXPECT_THAT(table.substr(first), HasSubstr("+0.2500 (1e-3)"));
  EXPECT_THAT(table.substr(second), HasSubstr("lr end of grid; beta +0.2500 (0.5)"));
  EXPECT_THAT(table.substr(second), HasSubstr("lr diverged (2); beta end of grid"));
  EXPECT_THAT(table.substr(second, first - second), HasSubstr("200.0 ms |     2.00 |   33.0 s |     3.00 |"));
  EXPECT_THAT(table, HasSubstr("* second: 1 of 4 runs has no result: 1 diverged"));
  EXPECT_THAT(table, HasSubstr("* second: the best lr is the smallest of those tried (1)"));
  EXPECT_THAT(table, HasSubstr("* second: the best beta is the largest of those tried (0.9)"));
  EXPECT_THAT(table, Not(HasSubstr("* first")));
}

TEST(Compare, ASweepWithoutAnyResultIsLast) {
  const Compared none = sweep("none", {}, {{RunResult{}}});
  const std::string table = comparison_table({none, kFirst});
  EXPECT_LT(table.find("| first "), table.find("| none "));
  EXPECT_THAT(table, HasSubstr("* none: 1 of 1 runs has no result: 1 pending"));
}

TEST(Compare, TheFileHoldsEveryLoss) {
  const auto json = nlohmann::json::parse(comparison_json({kFirst, kSecond}));
  EXPECT_EQ(json["sweeps"][0]["best"]["mean"], 5.0);
  EXPECT_EQ(json["sweeps"][0]["points"][2]["runs"][0]["val_loss"], 4.5);
  EXPECT_EQ(json["sweeps"][0]["sensitivity"]["lr"]["above"]["penalty"], 0.5);
  EXPECT_EQ(json["sweeps"][1]["sensitivity"]["lr"]["above"]["state"], "diverged");
  EXPECT_TRUE(json["sweeps"][1]["sensitivity"]["lr"]["below"].is_null());
}

TEST(Compare, WhatMakesLossesIncomparableIsFound) {
  Compared first = kFirst, second = kSecond;
  EXPECT_THAT(incomparable({first, second}), IsEmpty());
  first.best->data.validation = second.best->data.validation = {{.path = "one.bin"}};
  second.best->optimizer.clip_norm = 7.0;  // what is compared
  second.best->data.prefetch_batches = 9;
  first.best->train.max_steps = second.best->batch.global_tokens = 30;  // the same tokens
  first.best->batch.global_tokens = second.best->train.max_steps = 60;
  EXPECT_THAT(incomparable({first, second}), IsEmpty());

  second.best->train.max_steps = 50;
  second.best->model.hidden_size = 32;
  second.best->data.validation[0].path = "other.bin";
  second.best->evaluation.sequences = 4;
  const std::vector<std::string> lines = incomparable({first, first, second});
  EXPECT_THAT(
      lines, UnorderedElementsAre("first -> second: model.hidden_size: 0 -> 32",
                                  "first -> second: data.validation.0.path: one.bin -> other.bin",
                                  "first -> second: evaluation.sequences: 0 -> 4",
                                  "first -> second: tokens of a run: 1800 -> 1500 (train.max_steps 30 -> 50, "
                                  "batch.global_tokens 60 -> 30)"));
  EXPECT_THAT(comparison_table({first, second}), HasSubstr("* not comparable: " + lines[0]));
  EXPECT_EQ(nlohmann::json::parse(comparison_json({first, second}))["incomparable"].size(), 4u);
}

TEST(Compare, SweepsAreReadFromTheirDirectories) {
  test::TemporaryDirectory directory;
  test::put(directory / "one/sweep.json", to_json(kSecond.definition, kSecond.results));
  const std::vector<Compared> sweeps = load_sweeps({directory / "one/"});
  EXPECT_EQ(sweeps[0].name, "one");
  ASSERT_EQ(incomparable(sweeps).size(), 1u);  // a point without its configuration
  EXPECT_THAT(incomparable(sweeps)[0],
              AllOf(StartsWith("one: unknown"), HasSubstr("lr=1,beta=0.9/config.yaml")));
  EXPECT_EQ(summarize(sweeps[0]).best->spread->mean, 4.0);
  try {
    load_sweeps({directory / "none"});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::bad_usage);
    EXPECT_THAT(e.what(), HasSubstr("expected the directory of a sweep"));
  }
}

}  // namespace
}  // namespace polar::sweep

// The HTML report of results that are known.
#include "sweep/page.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "sweep/curves.h"
#include "sweep/plots.h"
#include "sweep/sample.h"
#include "temporary.h"

namespace polar::sweep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

RunResult diverged(uint64_t seed) {
  return other(seed, State::diverged, "<b>spikes</b>");
}

// A 2 x 2 x 2 grid in which the third key decides within each cell.
const Definition kCube = definition({"o.lr=1e-3,4e-3", "o.kind=a,b", "o.beta=0.9,0.5"});
const Results kCubeResults{{{done(1, 4.0)},
                            {done(1, 3.0)},
                            {done(1, 5.0)},
                            {done(1, 6.0)},
                            {diverged(1)},
                            {done(1, 3.5)},
                            {diverged(1)},
                            {diverged(1)}}};

TEST(BestWith, TakesTheBestOverTheOtherKeys) {
  const std::vector<Ranked> order = ranking(kCubeResults);
  EXPECT_EQ(best_with(kCube, kCubeResults, order, {0, 0, -1}).loss, 3.0);
  EXPECT_EQ(best_with(kCube, kCubeResults, order, {0, 1, -1}).loss, 5.0);
  EXPECT_EQ(best_with(kCube, kCubeResults, order, {1, 0, -1}).loss, 3.5);  // its other point has diverged
  EXPECT_EQ(best_with(kCube, kCubeResults, order, {-1, -1, 0}).point, 0u);
  const Best none = best_with(kCube, kCubeResults, order, {1, 1, -1});
  EXPECT_FALSE(none.loss);
  EXPECT_TRUE(none.tried);
}

TEST(UpperEnd, CutsOffWhatHasRunAway) {
  EXPECT_EQ(upper_end({4.0, 5.0}), 5.0);
  EXPECT_EQ(upper_end({4.0, 4.5, 5.0}), 5.0);
  EXPECT_EQ(upper_end({1e6, 4.0, 4.5}), 6.0);  // 4 + 4 (4.5 - 4)
}

TEST(HeatMap, OneAPairOfKeys) {
  const std::string html = heat_maps(kCube, kCubeResults);
  for (const char* caption : {"rows lr, columns kind", "rows lr, columns beta", "rows kind, columns beta"})
    EXPECT_THAT(html, HasSubstr(caption));
  EXPECT_THAT(html,
              HasSubstr("class=\"best\" style=\"--heat:60%\" title=\"lr=1e-3,kind=a,beta=0.5\">3.0000</td>"));
  EXPECT_THAT(html, HasSubstr("<td class=\"none\">no result</td>"));
  EXPECT_EQ(heat_maps(definition({"o.lr=1,2", "o.beta=0.9"}), {{{done(1, 3)}, {done(1, 4)}}}), "");
  EXPECT_EQ(heat_maps(definition({"o.lr=1,2"}), {{{done(1, 3)}, {done(1, 4)}}}), "");
}

TEST(LossPlot, NamesValuesAndWhatHasNoResult) {
  const Definition d = definition({"o.lr=1e-3,2e-3,4e-3,8e-3"});
  const std::string html = loss_over_keys(d, {{{done(1, 4.0), done(2, 4.2)},
                                               {done(1, 3.9), done(2, 3.8)},
                                               {done(1, 900.0), done(2, 4.0)},
                                               {diverged(1)}}});
  EXPECT_THAT(html, HasSubstr("validation loss over lr"));
  EXPECT_THAT(html, HasSubstr(">▲</text>"));
  EXPECT_THAT(html, HasSubstr(">452.0000</text>"));
  EXPECT_THAT(html, HasSubstr(">no result</text>"));
  size_t dots = 0;
  for (size_t at = html.find("<circle"); at != std::string::npos; at = html.find("<circle", at + 1)) ++dots;
  EXPECT_EQ(dots, 5u);
  EXPECT_THAT(html, Not(HasSubstr("nan")));
}

MetricsTable table(const std::vector<int64_t>& steps, const std::vector<double>& losses) {
  MetricsTable result;
  result.step = steps;
  for (const int64_t step : steps) result.tokens.push_back(64 * step);
  result.columns["loss"] = losses;
  return result;
}

TEST(Curves, MeansAreOverThoseThatHaveAValue) {
  const double none = std::numeric_limits<double>::quiet_NaN();
  const MetricsTable mean = mean_of({table({1, 2, 3}, {4.0, none, 2.0}), table({1, 2}, {5.0, 3.0})});
  EXPECT_THAT(mean.step, ElementsAre(1, 2, 3));
  EXPECT_THAT(mean.tokens, ElementsAre(64, 128, 192));
  EXPECT_THAT(mean.column("loss"), ElementsAre(4.5, 3.0, 2.0));
}

TEST(Page, IsWholeAndHoldsNoMarkupOfOthers) {
  test::TemporaryDirectory directory;
  const Definition d = definition({"o.name=a b,<script>alert(1)</script>"});
  const std::string metrics = R"({"step":1,"tokens":64,"loss":3.0,"val_loss":2.5})"
                              "\n";
  test::put(directory / "name=a%20b/seed-1/metrics.jsonl", metrics);
  test::put(directory / "name=a%20b/seed-1/report.html", "");
  const std::string html = render_sweep(directory.path(), d, {{{done(1, 2.5)}, {diverged(1)}}});
  EXPECT_THAT(html, HasSubstr("<a href=\"name=a%2520b/seed-1/report.html\" title=\"seed 1\">2.5000</a>"));
  EXPECT_THAT(html, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(html, Not(HasSubstr("<b>spikes")));
  EXPECT_THAT(html, HasSubstr("&lt;b&gt;spikes"));
  EXPECT_THAT(html, HasSubstr("1 of 2 runs has no result: 1 diverged"));
  EXPECT_THAT(html, HasSubstr(R"("name":"name=a%20b")"));  // the curves
  for (const char* loads : {" src=", "<link", "@import", "url(http", "href=\"http"})
    EXPECT_THAT(html, Not(HasSubstr(loads)));  // needs no network
}

}  // namespace
}  // namespace polar::sweep

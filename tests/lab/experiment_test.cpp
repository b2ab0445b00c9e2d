// What an experiment leaves behind: JSON, table, figures, page.
#include "lab/experiment.h"

#include <gmock/gmock.h>

#include "base/file.h"
#include "errors.h"
#include "lab/figures.h"
#include "small.h"
#include "temporary.h"

namespace polar::lab {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

Result result_of(const std::string& name, uint64_t seed,
                 const std::vector<std::pair<int64_t, double>>& gaps) {
  Result result{.setting = {.name = name, .group = {}}, .seed = seed, .points = {}, .diverged = false};
  for (const auto& [step, gap] : gaps) result.points.push_back({step, 0.1, {gap, 2.0 * gap}});
  return result;
}

// Two settings on three draws; the second has diverged on one of them.
Experiment example() {
  Experiment experiment{.problem = "quadratic",
                        .title = "f(X) < g & h",
                        .device = "a device",
                        .version = "1.2.3",
                        .sizes = {{"m", 3.0}, {"share", 0.5}},
                        .quantities = {{"gap", "f - f*"}, {"gradient_condition", "condition"}},
                        .table_steps = {10, 20},
                        .draws = {{1, 0.25, "hand"}, {2, 0.5, "hand"}, {3, 1.0 / 3.0, "hand"}},
                        .settings = {}};
  experiment.settings.push_back({result_of("good <one>", 1, {{0, 8.0}, {10, 4.0}, {20, 0.1}}),
                                 result_of("good <one>", 2, {{0, 9.0}, {10, 2.0}, {20, 0.002}}),
                                 result_of("good <one>", 3, {{0, 7.0}, {10, 3.0}, {20, 0.05}})});
  experiment.settings.push_back({result_of("bad", 1, {{0, 8.0}, {10, 4.0}, {20, 1.0}}),
                                 result_of("bad", 2, {{0, 9.0}, {10, 2e9}}),
                                 result_of("bad", 3, {{0, 7.0}, {10, 3.0}, {20, 2.0}})});
  experiment.settings[1][1].diverged = true;
  return experiment;
}

TEST(Experiment, SpreadsAreMedianLeastAndMost) {
  const Experiment experiment = example();
  const std::optional<Spread> spread = spread_at(experiment.settings[0], 10, 0);
  ASSERT_TRUE(spread);
  EXPECT_EQ(spread->median, 3.0);
  EXPECT_EQ(spread->least, 2.0);
  EXPECT_EQ(spread->most, 4.0);
  EXPECT_EQ(spread_at(experiment.settings[0], 10, 1)->median, 6.0);
  EXPECT_FALSE(spread_at(experiment.settings[1], 20, 0));
  EXPECT_FALSE(spread_at(experiment.settings[0], 15, 0));
  EXPECT_THAT(common_steps(experiment.settings[1]), ElementsAre(0, 10));
}

TEST(Experiment, TableShowsMediansAndWideSpreads) {
  EXPECT_EQ(to_markdown(gap_table(example())),
            "| f - f*, median of the seeds, after steps | lr | 10 | 20 |\n"
            "|---|---:|---:|---:|\n"
            "| good <one> | 0.001 | 3.0e+00 | 5.0e-02 (2e-03 .. 1e-01) |\n"
            "| bad | 0.001 | 4.0e+00 (3e+00 .. 2e+09) | diverged |\n");
}

TEST(Experiment, SaysWhoseDrawsTheyAre) {
  Experiment experiment = example();
  EXPECT_EQ(draw_text(experiment), "drawn by PolarTrain's generator, seeds 1-3");
  experiment.generator = Generator::torch;
  experiment.draws.erase(experiment.draws.begin() + 1);
  EXPECT_EQ(draw_text(experiment), "drawn by PyTorch's CPU generator, seeds 1, 3");
  EXPECT_THAT(gap_table(experiment).head.front(), HasSubstr("median of PyTorch's seeds"));
  EXPECT_EQ(to_json(experiment)["draw"], "torch");
  EXPECT_THAT(picture_program(experiment, "out.png"),
              HasSubstr("'drawn by PyTorch''s CPU generator, seeds 1, 3'"));
  experiment.draws.pop_back();
  EXPECT_THAT(render_page(experiment), HasSubstr("drawn by PyTorch&#39;s CPU generator, seed 1;"));
}

TEST(Experiment, JsonHasAColumnAQuantity) {
  Experiment experiment = example();
  experiment.settings[0][0].points[1].values[1] = std::numeric_limits<double>::infinity();
  experiment.settings[0][0].points[1].values[0] = 1.23456789e-7;
  const nlohmann::json json = nlohmann::json::parse(to_json(experiment).dump());
  EXPECT_EQ(json["problem"], "quadratic");
  EXPECT_EQ(json["version"], "1.2.3");
  EXPECT_EQ(json["sizes"]["share"], 0.5);
  EXPECT_EQ(json["draws"][1]["minimum"], 0.5);
  EXPECT_EQ(json["draw"], "polartrain");
  ASSERT_EQ(json["runs"].size(), 6u);
  const nlohmann::json& run = json["runs"][0];
  EXPECT_EQ(run["name"], "good <one>");
  EXPECT_EQ(run["step"], (std::vector<int>{0, 10, 20}));
  EXPECT_EQ(run["gap"][1], 1.2346e-7);
  EXPECT_TRUE(run["gradient_condition"][1].is_null());
  EXPECT_EQ(json["runs"][4]["diverged"], true);
  EXPECT_EQ(json["runs"][4]["seed"], 2);
}

TEST(Experiment, DrawsOfSeveralFilesAreJoined) {
  const test::TemporaryDirectory directory;
  Experiment one = example();
  one.settings[0].front().setting = setting_of(quadratic_suite(), "Adam");
  one.settings[1].front().setting = setting_of(quadratic_suite(), "Newton");
  for (auto& seeds : one.settings)
    for (Result& result : seeds) result.setting = seeds.front().setting;
  Experiment two = one;
  for (size_t i = 0; i < 3; ++i) {
    two.draws[i].seed += 3;
    for (auto& seeds : two.settings) seeds[i].seed += 3;
  }
  const fs::path a = test::put(directory / "a.json", to_json(one).dump()),
                 b = test::put(directory / "b.json", to_json(two).dump());
  const Experiment both = joined({a, b});
  EXPECT_EQ(both.draws.size(), 6u);
  ASSERT_EQ(both.settings.size(), 2u);
  EXPECT_EQ(both.settings[0].size(), 6u);
  EXPECT_EQ(both.settings[1][4].seed, 5u);
  EXPECT_TRUE(both.settings[1][4].diverged);
  EXPECT_EQ(both.table_steps.back(), 20);
  EXPECT_EQ(to_json(joined({a}))["runs"], to_json(one)["runs"]);

  const auto refusal = [&](const std::vector<fs::path>& files) {
    return test::message_of([&] { joined(files); });
  };
  EXPECT_THAT(refusal({}), HasSubstr("no file"));
  EXPECT_THAT(refusal({a, a}), HasSubstr("a.json: found the draw 1 a second time"));
  two.sizes[0].second = 4.0;
  EXPECT_THAT(refusal({a, test::put(directory / "c.json", to_json(two).dump())}), HasSubstr("other sizes"));
  two.sizes = one.sizes;
  two.generator = Generator::torch;
  const fs::path torch = test::put(directory / "torch.json", to_json(two).dump());
  EXPECT_THAT(refusal({a, torch}),
              HasSubstr("torch.json: found draws by torch, expected draws by polartrain"));
  EXPECT_EQ(joined({torch}).generator, Generator::torch);
  auto other = to_json(two);
  other["draw"] = "numpy";
  EXPECT_THAT(refusal({test::put(directory / "numpy.json", other.dump())}), HasSubstr("draw \"numpy\""));
  other.erase("draw");  // a file of before there were others
  EXPECT_EQ(joined({test::put(directory / "old.json", other.dump())}).generator, Generator::polartrain);
  two.generator = one.generator;
  two.settings.pop_back();
  EXPECT_THAT(refusal({a, test::put(directory / "d.json", to_json(two).dump())}), HasSubstr("1 settings"));
  EXPECT_THAT(refusal({test::put(directory / "e.json", "{\"problem\": 3}")}),
              HasSubstr("e.json: found no exp"));
  EXPECT_THAT(refusal({directory / "none.json"}), HasSubstr("none.json"));
}

TEST(Figures, PageStandsByItself) {
  const std::string page = render_page(example());
  EXPECT_THAT(page, HasSubstr("f(X) &lt; g &amp; h"));
  EXPECT_THAT(page, HasSubstr("good &lt;one&gt;"));
  EXPECT_THAT(page, HasSubstr("5.0e-02 (2e-03 .. 1e-01)"));
  EXPECT_THAT(page, HasSubstr("f* = 0.3333333333, by hand"));
  EXPECT_THAT(page, Not(testing::ContainsRegex("(src|href)=\"")));  // nothing to be fetched
  // A panel a quantity, with a curve a setting.
  size_t panels = 0;
  for (size_t at = page.find("class=\"panel\""); at != std::string::npos;
       at = page.find("class=\"panel\"", at + 1))
    ++panels;
  EXPECT_EQ(panels, 2u);
  EXPECT_THAT(page, HasSubstr("<text>f - f*</text>"));
}

TEST(Figures, PictureIsDrawn) {
  const test::TemporaryDirectory directory;
  draw_picture(example(), directory.path() / "all.png");
  EXPECT_EQ(read_file(directory.path() / "all.png").substr(1, 3), "PNG");
  // Nothing to show is no failure: values at zero have no place on a logarithmic axis.
  Experiment empty = example();
  for (auto& seeds : empty.settings)
    for (Result& result : seeds)
      for (Point& point : result.points) point.values = {0.0, 0.0};
  draw_picture(empty, directory.path() / "empty.png");
  EXPECT_TRUE(fs::exists(directory.path() / "empty.png"));
}

TEST(Figures, ProgramsHoldMedianAndBand) {
  const std::string program = panel_program(example(), 0, "out.svg");
  EXPECT_THAT(program, HasSubstr("$q0s0 << EOD\n10 3.0000e+00 2.0000e+00 4.0000e+00\n20 "));
  EXPECT_THAT(program, HasSubstr("$q0s1 << EOD\n10 "));
  EXPECT_THAT(program, HasSubstr("set logscale xy"));
  EXPECT_THAT(picture_program(example(), "it's.png"), HasSubstr("'it''s.png'"));
}

TEST(Figures, SettingsLookDifferent) {
  std::set<std::pair<std::string, int>> styles;
  for (size_t i = 0; i < 24; ++i)
    EXPECT_TRUE(styles.insert({style_of(i).color, style_of(i).dashes}).second) << i;
}

TEST(Figures, WithoutGnuplotThePageSaysSo) {
  const test::TemporaryDirectory directory;
  const std::string path = std::getenv("PATH");
  ASSERT_EQ(setenv("PATH", directory.path().c_str(), 1), 0);
  const std::string page = render_page(example());
  const std::string message =
      test::message_of([&] { draw_picture(example(), directory.path() / "all.png"); });
  ASSERT_EQ(setenv("PATH", path.c_str(), 1), 0);
  EXPECT_THAT(page, HasSubstr("No figures: gnuplot is not installed"));
  EXPECT_THAT(page, HasSubstr("<h2>Gap</h2>"));
  EXPECT_THAT(message, HasSubstr("gnuplot is not installed"));
}

}  // namespace
}  // namespace polar::lab

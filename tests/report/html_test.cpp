// The report: what it reads, how it sums up, that the page is safe and self-contained, its errors.
#include "report/html.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "errors.h"
#include "report/page.h"
#include "report/picture.h"
#include "report/run_data.h"
#include "temporary.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

class Report : public testing::Test {
 protected:
  // A run of `steps` logged steps whose loss falls from `start` by 1/8 a step; every second step is
  // evaluated.
  fs::path make_run(const std::string& name, int64_t steps, double start, const std::string& config = "") {
    const fs::path run = directory_ / name;
    fs::create_directories(run);
    MetricsWriter writer(run / "metrics.jsonl");
    for (int64_t step = 1; step <= steps; ++step) {
      StepMetrics metrics;
      metrics.step = step;
      metrics.tokens = 1000 * step;
      metrics.loss = start - 0.125 * static_cast<double>(step);
      metrics.lr = {{"muon", 0.02}, {"adamw", 3e-3}};
      metrics.grad_norm = 1.0;
      if (step % 2 == 0) metrics.val_loss = *metrics.loss + 0.5;
      metrics.tokens_per_s = 100.0 * static_cast<double>(step);
      metrics.time = 1e9 + 2.0 * static_cast<double>(step);
      writer.write(metrics);
    }
    if (!config.empty()) put(run / "config.yaml", config);
    return run;
  }

  static Error refusal_of(const std::vector<fs::path>& runs) {
    return error_of([&] { write_report(runs); });
  }

  TemporaryDirectory directory_;
};

TEST_F(Report, WritesPageAndPictureIntoTheRun) {
  const fs::path run = make_run("demo", 6, 8.0, "run: {name: demo}\nmodel: {hidden_size: 256}\n");
  put(run / "sample.txt", "It is a truth <universally> acknowledged");
  const ReportPaths paths = write_report({run});
  EXPECT_EQ(paths.html, run / "report.html");
  ASSERT_EQ(paths.png, run / "loss.png");
  const std::string page = read_file(paths.html);
  EXPECT_THAT(page, HasSubstr("hidden_size</dt><dd>256"));
  EXPECT_THAT(page, HasSubstr("It is a truth &lt;universally&gt; acknowledged"));
  EXPECT_EQ(read_file(paths.png).substr(0, 8), "\x89PNG\r\n\x1a\n");
}

TEST_F(Report, PageNeedsNoNetwork) {
  const std::string page = render_page(load_runs({make_run("a", 4, 8.0), make_run("b", 4, 7.0)}));
  for (const char* reference : {" src=", "@import", "url(http", "<link", "fetch("})
    EXPECT_THAT(page, Not(HasSubstr(reference)));
  size_t addresses = 0;  // the name of SVG is the only address, and names are not loaded
  for (size_t at = 0; (at = page.find("http", at)) != std::string::npos; ++at, ++addresses)
    EXPECT_EQ(page.substr(at, 26), "http://www.w3.org/2000/svg");
  EXPECT_EQ(addresses, 1u);
}

TEST_F(Report, EveryStringIsEscaped) {
  const std::string attack = "<script>alert('1')<";
  const std::string config = "run: {name: x}\n\"" + attack + "\": {\"" + attack + "\": \"" + attack + "\"}\n";
  std::vector<RunData> runs = load_runs({make_run(attack, 3, 8.0, config)});
  runs[0].sample = attack;
  const std::string single = render_page(runs);
  runs.push_back(runs[0]);
  runs[1].config[1].second = attack + attack;
  const std::string several = render_page(runs);
  for (const std::string& page : {single, several}) {
    EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
    EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(&#39;1&#39;)&lt;"));
  }
}

TEST_F(Report, EscapesMarkupControlCharactersAndBrokenUtf8) {
  EXPECT_EQ(escape_html("a<b>&\"c'\n"), "a&lt;b&gt;&amp;&quot;c&#39;\n");
  EXPECT_EQ(escape_html("é\xFF\x01"), "é\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST_F(Report, DataHoldTheCurvesAndNoMarkup) {
  std::vector<RunData> runs = load_runs({make_run("a", 3, 8.0)});
  runs[0].name = "</script><b>";
  runs[0].metrics.columns["loss"][1] = kNaN;
  const std::string data = page_data(runs);
  EXPECT_THAT(data, Not(HasSubstr("<")));
  const nlohmann::json run = nlohmann::json::parse(data)["runs"][0];
  EXPECT_EQ(run["name"], "</script><b>");
  EXPECT_EQ(run["step"], nlohmann::json({1, 2, 3}));
  EXPECT_EQ(run["tokens"], nlohmann::json({1000, 2000, 3000}));
  EXPECT_EQ(run["columns"]["loss"], nlohmann::json({7.875, nullptr, 7.625}));
  EXPECT_EQ(run["columns"]["val_loss"], nlohmann::json({nullptr, 8.25, nullptr}));
  EXPECT_TRUE(run["columns"].contains("lr/muon") && run["columns"].contains("lr/adamw"));
}

TEST_F(Report, SummarySaysTheFinalNumbers) {
  const RunSummary summary = summarize(load_runs({make_run("a", 5, 8.0)})[0].metrics);
  EXPECT_EQ(summary.steps, 5);
  EXPECT_EQ(summary.tokens, 5000);
  EXPECT_EQ(summary.last_loss, 7.375);
  EXPECT_EQ(summary.last_val_loss, 8.0);
  EXPECT_EQ(summary.best_val_loss, 8.0);
  EXPECT_EQ(summary.best_val_step, 4);
  EXPECT_EQ(summary.median_tokens_per_s, 300.0);
  EXPECT_EQ(summary.seconds, 8.0);
  EXPECT_FALSE(summary.val_perplexity.has_value());
  EXPECT_FALSE(summary.median_mfu.has_value());
}

TEST_F(Report, BestIsNotAlwaysLast) {
  MetricsTable metrics;
  metrics.step = {1, 2, 3, 4};
  metrics.tokens = {1, 2, 3, 4};
  metrics.columns["val_loss"] = {5.0, 4.0, 4.5, kNaN};
  metrics.columns["tokens_per_s"] = {1.0, 10.0, 3.0, 2.0};
  metrics.columns["mfu"] = {0.1, 0.5, 0.4, 0.3};
  metrics.columns["skipped"] = {0.0, 0.0, 2.0, 2.0};
  const RunSummary summary = summarize(metrics);
  EXPECT_EQ(summary.best_val_loss, 4.0);
  EXPECT_EQ(summary.best_val_step, 2);
  EXPECT_EQ(summary.last_val_loss, 4.5);
  EXPECT_EQ(summary.median_tokens_per_s, 2.5);
  EXPECT_EQ(summary.median_mfu, 0.35);
  EXPECT_EQ(summary.skipped, 2);
  EXPECT_FALSE(summary.last_loss.has_value());
}

TEST_F(Report, SmoothingIsTheTwoSidedWeightedMean) {
  const std::vector<double> values{3.0, 1.0, kNaN, 4.0, 1.0, 5.0};
  const double weight = 0.6;
  const std::vector<double> smoothed = smooth(values, weight);
  const std::vector<size_t> kept{0, 1, 3, 4, 5};  // distances count the kept values only
  for (size_t a = 0; a < kept.size(); ++a) {
    double sum = 0.0, total = 0.0;
    for (size_t b = 0; b < kept.size(); ++b) {
      const double factor = std::pow(weight, std::abs(static_cast<double>(a) - static_cast<double>(b)));
      sum += factor * values[kept[b]];
      total += factor;
    }
    EXPECT_NEAR(smoothed[kept[a]], sum / total, 1e-14);
  }
  EXPECT_TRUE(std::isnan(smoothed[2]));
  EXPECT_EQ(smooth(std::vector<double>{1.0, 2.0}, 0.0), (std::vector<double>{1.0, 2.0}));
}

TEST_F(Report, FlattensConfigurations) {
  put(directory_ / "c.yaml",
      "run: {name: demo, seed: 1}\n"
      "optimizer:\n"
      "  groups:\n"
      "    - {match: [\"*_proj.weight\", b], lr: 2.0e-4}\n"
      "    - {match: [\"*\"], lr: 3.0e-3}\n"
      "custom: [[1, 2], [3, 4]]\n"
      "empty: []\n"
      "nothing:\n");
  const FlatConfig expected{{"run.name", "demo"},
                            {"run.seed", "1"},
                            {"optimizer.groups.0.match", "[*_proj.weight, b]"},
                            {"optimizer.groups.0.lr", "2.0e-4"},
                            {"optimizer.groups.1.match", "[*]"},
                            {"optimizer.groups.1.lr", "3.0e-3"},
                            {"custom", "[[1, 2], [3, 4]]"},
                            {"empty", "[]"},
                            {"nothing", "null"}};
  EXPECT_EQ(flatten_yaml(directory_ / "c.yaml"), expected);
}

TEST_F(Report, DifferencesAreThoseKeysThatDiffer) {
  const std::vector<RunData> runs = load_runs(
      {make_run("a", 1, 8.0, "run: {name: a, seed: 1}\ntrain: {max_steps: 5}\nmodel: {x: 1}\n"),
       make_run("b", 1, 8.0, "run: {name: b, seed: 1}\ntrain: {max_steps: 6}\nmodel: {x: 1, y: 2}\n"),
       make_run("c", 1, 8.0)});
  const std::vector<ConfigDifference> differences = config_differences(runs);
  ASSERT_EQ(differences.size(), 2u);
  using Values = std::vector<std::optional<std::string>>;
  EXPECT_EQ(differences[0].key, "train.max_steps");
  EXPECT_EQ(differences[0].values, (Values{"5", "6", std::nullopt}));
  EXPECT_EQ(differences[1].key, "model.y");
  EXPECT_EQ(differences[1].values, (Values{std::nullopt, "2", std::nullopt}));
}

TEST_F(Report, RunsOfTheSameNameAreToldApart) {
  const std::vector<RunData> runs =
      load_runs({make_run("x/demo", 1, 8.0), make_run("y/demo", 1, 8.0), make_run("z", 1, 8.0) / ""});
  EXPECT_EQ(runs[0].name, (directory_ / "x/demo").string());
  EXPECT_EQ(runs[1].name, (directory_ / "y/demo").string());
  EXPECT_EQ(runs[2].name, "z");
}

TEST_F(Report, OneLoggedStepIsEnough) {
  const ReportPaths paths = write_report({make_run("one", 1, 8.0)});
  EXPECT_THAT(read_file(paths.html), HasSubstr("7.8750"));
  EXPECT_FALSE(paths.png.empty());
}

TEST_F(Report, PictureStandsBesideTheChosenPage) {
  const fs::path a = make_run("it's \"a\"", 4, 8.0), b = make_run("b", 4, 7.0);
  const ReportPaths paths = write_report({a, b}, {directory_ / "compare.html", {}});
  EXPECT_EQ(paths.html, directory_ / "compare.html");
  ASSERT_EQ(paths.png, directory_ / "loss.png");
  EXPECT_GT(fs::file_size(paths.png), 1000u);
  EXPECT_FALSE(fs::exists(directory_ / "loss.png.tmp"));
}

TEST_F(Report, WithoutGnuplotThePageIsWrittenAllTheSame) {
  const fs::path run = make_run("demo", 3, 8.0);
  const std::string path = std::getenv("PATH");
  ASSERT_EQ(setenv("PATH", directory_.path().c_str(), 1), 0);
  const ReportPaths paths = write_report({run});
  ASSERT_EQ(setenv("PATH", path.c_str(), 1), 0);
  EXPECT_TRUE(fs::exists(paths.html));
  EXPECT_TRUE(paths.png.empty());
  EXPECT_FALSE(fs::exists(run / "loss.png"));
}

TEST_F(Report, GnuplotsOwnWordsReachTheUser) {
  const std::vector<RunData> runs = load_runs({make_run("demo", 3, 8.0)});
  const std::string message =
      message_of([&] { draw_loss_curves(runs, directory_ / "missing" / "loss.png"); });
  EXPECT_THAT(message, HasSubstr("gnuplot"));
  EXPECT_THAT(message, HasSubstr("missing"));
}

TEST_F(Report, ErrorsNameWhatIsWrong) {
  const Error none = refusal_of({});
  EXPECT_EQ(none.code(), ExitCode::bad_usage);

  const Error missing = refusal_of({directory_ / "nowhere"});
  EXPECT_EQ(missing.code(), ExitCode::bad_usage);
  EXPECT_THAT(missing.what(), HasSubstr("nowhere"));

  fs::create_directories(directory_ / "empty");
  const Error no_metrics = refusal_of({make_run("good", 2, 8.0), directory_ / "empty"});
  EXPECT_EQ(no_metrics.code(), ExitCode::bad_usage);
  EXPECT_THAT(no_metrics.what(), HasSubstr((directory_ / "empty").string() + ": no metrics.jsonl"));

  put(directory_ / "empty" / "metrics.jsonl", "");
  const Error no_step = refusal_of({directory_ / "empty"});
  EXPECT_EQ(no_step.code(), ExitCode::bad_usage);
  EXPECT_THAT(no_step.what(), HasSubstr("no step is logged"));

  put(directory_ / "empty" / "metrics.jsonl", "{\"step\":1,\"tokens\":1}\n{\"step\":2}\n");
  const Error broken = refusal_of({directory_ / "empty"});
  EXPECT_EQ(broken.code(), ExitCode::failed);
  EXPECT_THAT(broken.what(), HasSubstr("metrics.jsonl:2: "));

  const Error config = refusal_of({make_run("config", 2, 8.0, "run: {name: x\ntrain: 1\n")});
  EXPECT_EQ(config.code(), ExitCode::failed);
  EXPECT_THAT(config.what(), testing::ContainsRegex("config.yaml:[0-9]+: "));
}

}  // namespace
}  // namespace polar::test

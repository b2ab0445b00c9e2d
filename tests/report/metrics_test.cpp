// metrics.jsonl: digits, order of the keys, resuming, torn and broken lines.
#include "report/metrics.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "base/file.h"
#include "errors.h"
#include "temporary.h"

namespace polar::test {
namespace {

using testing::HasSubstr;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

StepMetrics example(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.tokens = 1024 * step;
  metrics.loss = 1.0 / 3.0 + static_cast<double>(step);
  metrics.lr = {{"polargrad", 2e-4}, {"adamw", 3e-3}};
  metrics.grad_norm = 0.1;
  metrics.memory_bytes = 432013312;
  metrics.tokens_per_s = 12345.678;
  metrics.data_wait_share = 0.01;
  metrics.time = 1.7e9 + 0.125;
  return metrics;
}

class Metrics : public testing::Test {
 protected:
  std::string error_of_reading() const {
    const Error error = error_of([&] { read_metrics(path_); });
    EXPECT_EQ(error.code(), ExitCode::failed);
    return error.what();
  }
  TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_ / "metrics.jsonl";
};

TEST_F(Metrics, LineHasTheKeysInOrderAndLeavesOutWhatIsAbsent) {
  EXPECT_EQ(metrics_line(example(2)),
            R"({"step":2,"tokens":2048,"loss":2.3333333333333335,"lr":{"polargrad":0.0002,"adamw":0.003},)"
            R"("grad_norm":0.1,"skipped":0,"memory_bytes":432013312,"tokens_per_s":12345.678,)"
            R"("data_wait_share":0.01,"time":1700000000.125})");
}

TEST_F(Metrics, MfuStandsAmongWhatDependsOnTheMachine) {
  StepMetrics metrics = example(2);
  metrics.mfu = 0.5;
  const std::string line = metrics_line(metrics);
  EXPECT_NE(line.find(R"("tokens_per_s":12345.678,"mfu":0.5,"data_wait_share")"), std::string::npos) << line;
  EXPECT_EQ(deterministic_part(line), deterministic_part(metrics_line(example(2))));
}

TEST_F(Metrics, NumbersComeBackBitForBit) {
  const std::vector<double> values{
      1.0 / 3.0,  std::nextafter(2.0, 3.0), 5e-324, 1.7976931348623157e308, -0.0, kInfinity, -kInfinity,
      0.1f + 0.2f};
  MetricsWriter writer(path_);
  for (size_t i = 0; i < values.size(); ++i) {
    StepMetrics metrics = example(static_cast<int64_t>(i));
    metrics.loss = values[i];
    writer.write(metrics);
  }
  const std::vector<double> loss = read_metrics(path_).column("loss");
  ASSERT_EQ(loss.size(), values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(loss[i], values[i]);
    EXPECT_EQ(std::signbit(loss[i]), std::signbit(values[i]));
  }
}

TEST_F(Metrics, NaNIsAString) {
  StepMetrics metrics = example(1);
  metrics.loss = kNaN;
  EXPECT_THAT(metrics_line(metrics), HasSubstr(R"("loss":"nan")"));
  MetricsWriter(path_).write(metrics);
  EXPECT_TRUE(std::isnan(read_metrics(path_).column("loss").at(0)));
}

TEST_F(Metrics, DeterministicPartIsFreeOfMachineAndClock) {
  StepMetrics other = example(3);
  other.memory_bytes = 1;
  other.tokens_per_s = 2.0;
  other.data_wait_share = 0.5;
  other.time = 7.0;
  EXPECT_NE(metrics_line(example(3)), metrics_line(other));
  EXPECT_EQ(deterministic_part(metrics_line(example(3))), deterministic_part(metrics_line(other)));
  other.val_loss = 3.25;
  EXPECT_NE(deterministic_part(metrics_line(example(3))), deterministic_part(metrics_line(other)));
  EXPECT_EQ(deterministic_part(R"({"step":1,"skipped":0,"memory_bytes":5,"time":1.0})"),
            R"({"step":1,"skipped":0})");
}

TEST_F(Metrics, EveryLineIsInTheFileAtOnce) {
  MetricsWriter writer(path_);
  writer.write(example(1));
  EXPECT_EQ(read_file(path_), metrics_line(example(1)) + "\n");
}

TEST_F(Metrics, ANewRunReplacesTheFile) {
  put(path_, "old\n");
  MetricsWriter writer(path_);
  EXPECT_EQ(read_file(path_), "");
}

TEST_F(Metrics, ResumeRemovesLaterAndTornLines) {
  std::string uninterrupted;
  for (int64_t step = 1; step <= 6; ++step) uninterrupted += metrics_line(example(step)) + "\n";
  const std::string torn = metrics_line(example(6)).substr(0, 50);
  std::string killed;
  for (int64_t step = 1; step <= 5; ++step) killed += metrics_line(example(step)) + "\n";
  put(path_, killed + torn);
  MetricsWriter writer(path_, 3);
  for (int64_t step = 4; step <= 6; ++step) writer.write(example(step));
  EXPECT_EQ(read_file(path_), uninterrupted);
}

TEST_F(Metrics, ResumeKeepsAWholeLineWithoutLineBreakAndNeedsNoFile) {
  put(path_, metrics_line(example(1)));
  MetricsWriter(path_, 5).write(example(6));
  EXPECT_EQ(read_file(path_), metrics_line(example(1)) + "\n" + metrics_line(example(6)) + "\n");
  MetricsWriter(directory_ / "new.jsonl", 5).write(example(6));
  EXPECT_EQ(read_file(directory_ / "new.jsonl"), metrics_line(example(6)) + "\n");
}

TEST_F(Metrics, ResumeRefusesABrokenLineAndLeavesTheFile) {
  const std::string content = metrics_line(example(1)) + "\nbroken\n" + metrics_line(example(2)) + "\n";
  put(path_, content);
  EXPECT_THROW(MetricsWriter(path_, 5), Error);
  EXPECT_EQ(read_file(path_), content);
}

TEST_F(Metrics, WriterNamesAFileThatCannotBeWritten) {
  EXPECT_THROW(MetricsWriter(directory_ / "missing" / "metrics.jsonl"), Error);
}

TEST_F(Metrics, ColumnsAreAsLongAsTheSteps) {
  MetricsWriter writer(path_);
  writer.write(example(1));
  StepMetrics evaluated = example(2);
  evaluated.val_loss = 3.5;
  writer.write(evaluated);
  writer.write(example(3));
  const MetricsTable table = read_metrics(path_);
  EXPECT_EQ(table.step, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(table.tokens, (std::vector<int64_t>{1024, 2048, 3072}));
  EXPECT_EQ(table.column("lr/adamw"), (std::vector<double>{3e-3, 3e-3, 3e-3}));
  const std::vector<double> val = table.column("val_loss");
  ASSERT_EQ(val.size(), 3u);
  EXPECT_TRUE(std::isnan(val[0]) && std::isnan(val[2]));
  EXPECT_EQ(val[1], 3.5);
  EXPECT_EQ(table.columns.count("val_perplexity"), 0u);
  EXPECT_TRUE(std::isnan(table.column("val_perplexity").at(2)));
}

TEST_F(Metrics, TornLastLineIsLeftOut) {
  put(path_, metrics_line(example(1)) + "\n" + metrics_line(example(2)).substr(0, 30));
  EXPECT_EQ(read_metrics(path_).size(), 1u);
}

TEST_F(Metrics, ErrorsNameFileAndLine) {
  const std::string good = metrics_line(example(1)) + "\n";
  const std::vector<std::pair<std::string, std::string>> cases{
      {"{\"step\":2\n", "expected a JSON object"},
      {"[1,2]\n", "expected a JSON object"},
      {"\n", "expected a JSON object"},
      {"{\"tokens\":2}\n", "\"step\""},
      {"{\"step\":1.5,\"tokens\":2}\n", "found 1.5"},
      {"{\"step\":-1,\"tokens\":2}\n", "found -1"},
      {"{\"step\":\"1\",\"tokens\":2}\n", "found \"1\""},
      {"{\"step\":2,\"tokens\":2,\"loss\":\"low\"}\n", "\"loss\""},
      {"{\"step\":2,\"tokens\":2,\"lr\":{\"adamw\":[]}}\n", "\"lr/adamw\""},
  };
  for (const auto& [line, expected] : cases) {
    put(path_, good + line + good);
    EXPECT_THAT(error_of_reading(), HasSubstr(path_.string() + ":2: ")) << line;
    EXPECT_THAT(error_of_reading(), HasSubstr(expected)) << line;
  }
}

TEST_F(Metrics, GroupNamesBecomeUnique) {
  EXPECT_EQ(unique_names({"adamw", "muon", "adamw", "adamw.2", "adamw"}),
            (std::vector<std::string>{"adamw", "muon", "adamw.2", "adamw.2.2", "adamw.3"}));
}

}  // namespace
}  // namespace polar::test

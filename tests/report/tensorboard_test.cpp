// Event files: the checksum against published vectors, the bytes against a golden file that TensorBoard's own
// EventAccumulator reads (tools/reference/tensorboard_check.py).
#include "report/tensorboard.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "base/file.h"
#include "temporary.h"

namespace polar::test {
namespace {

std::string ascending_bytes() {
  std::string bytes;
  for (int i = 0; i < 32; ++i) bytes.push_back(static_cast<char>(i));
  return bytes;
}

TEST(Crc32c, PublishedVectors) {
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);            // the catalogue's check value
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
  EXPECT_EQ(crc32c(ascending_bytes()), 0x46DD794Eu);
}

TEST(Crc32c, MaskRotatesAndAdds) {
  EXPECT_EQ(masked_crc32c(""), 0xA282EAD8u);
  EXPECT_EQ(masked_crc32c("123456789"), 0xC78AB0E5u);  // what TensorBoard computes
}

class Events : public testing::Test {
 protected:
  TemporaryDirectory directory_;
};

TEST_F(Events, BytesAreTheGoldenOnes) {
  EventWriter writer(directory_ / "tensorboard", 1.7e9 + 0.5);
  StepMetrics metrics;
  for (int64_t step = 10; step <= 30; step += 10) {
    metrics.step = step;
    metrics.tokens = 1024 * step;
    metrics.loss = 8.0 - 0.125 * static_cast<double>(step);
    metrics.lr = {{"polargrad", 2e-4}, {"adamw", 3e-3}};
    metrics.grad_norm = 0.75;
    if (step == 30) metrics.val_loss = 4.5;
    writer.write(step, 1.7e9 + static_cast<double>(step), tensorboard_scalars(metrics));
  }
  EXPECT_EQ(writer.path().filename(), "events.out.tfevents.1700000000.polartrain.0");
  const std::string golden = read_file(std::string(POLAR_GOLDEN_DIR) + "/report/events.out.tfevents.golden");
  ASSERT_FALSE(golden.empty());
  EXPECT_TRUE(read_file(writer.path()) == golden) << "the event file differs from the golden one";
}

TEST_F(Events, ASecondWriterTakesAnotherName) {
  EventWriter first(directory_.path(), 5.0);
  EventWriter second(directory_.path(), 5.9, 100);
  EXPECT_NE(first.path(), second.path());
  EXPECT_LT(first.path().filename().string(), second.path().filename().string());
}

TEST_F(Events, NamesADirectoryThatCannotBeMade) {
  put(directory_ / "file", "");
  EXPECT_THROW(EventWriter(directory_ / "file" / "tensorboard", 5.0), Error);
}

TEST(TensorboardScalars, LeavesOutWhatIsAbsent) {
  StepMetrics metrics;
  metrics.loss = 2.0;
  metrics.lr = {{"adamw", 0.5}};
  std::vector<std::string> tags;
  for (const auto& [tag, value] : tensorboard_scalars(metrics)) tags.push_back(tag);
  EXPECT_THAT(tags, testing::IsSupersetOf({"train/loss", "train/lr/adamw"}));
  EXPECT_THAT(tags, testing::Not(testing::Contains("val/loss")));
  EXPECT_THAT(tags, testing::Not(testing::Contains("train/grad_norm")));
}

}  // namespace
}  // namespace polar::test

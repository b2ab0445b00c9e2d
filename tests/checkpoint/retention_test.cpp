// Which checkpoints are given up.
#include <gmock/gmock.h>

#include <filesystem>

#include "checkpoint/sample.h"
#include "checkpoint/store.h"
#include "temporary.h"

namespace polar::test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Steps = std::vector<int64_t>;

struct Rule {
  Steps steps;
  Retention retention;
  Steps deleted;
};
class RetentionTable : public ::testing::TestWithParam<Rule> {};

TEST_P(RetentionTable, Deletes) {
  EXPECT_EQ(steps_to_delete(GetParam().steps, GetParam().retention), GetParam().deleted);
}

Retention keep(int64_t last, int64_t every = 0, std::optional<int64_t> best = {},
               std::optional<int64_t> saved = {}) {
  return {last, every, best, saved};
}

INSTANTIATE_TEST_SUITE_P(
    Rules, RetentionTable,
    ::testing::Values(
        Rule{{}, keep(3), {}}, Rule{{100}, keep(3), {}},  // fewer than keep_last: no wrap-around
        Rule{{100, 200}, keep(3), {}}, Rule{{100, 200, 300}, keep(3), {}},
        Rule{{100, 200, 300, 400}, keep(3), {100}}, Rule{{100, 200, 300, 400}, keep(1), {100, 200, 300}},
        Rule{{100, 200, 300, 400}, keep(0), {}},   // 0: keep all
        Rule{{100, 200, 300, 400}, keep(-1), {}},  // the configuration refuses it; no harm here
        Rule{{100, 200, 300, 400}, keep(INT64_MAX), {}}, Rule{{100, 200, 300, 400}, keep(1, 200), {100, 300}},
        Rule{{0, 100, 200}, keep(1, 1000), {100}},  // step 0 is divisible by everything
        Rule{{100, 200, 300, 400}, keep(1, 0, 200), {100, 300}},
        Rule{{100, 200, 300, 400}, keep(1, 0, 999), {100, 200, 300}},
        Rule{{100, 200, 300, 400}, keep(1, 300, 100), {200}},
        // The run went back to 100 and saved 150: what was just saved stays.
        Rule{{100, 150, 200, 300}, keep(2, 0, {}, 150), {100}}));

TEST(Retention, DeletesDirectoriesAndNothingElse) {
  TemporaryDirectory run;
  const Sample sample(1);
  for (int64_t step : {1, 2, 3}) save_checkpoint(run.path(), step, sample.content());
  EXPECT_THAT(apply_retention(run.path(), keep(1)), ElementsAre(1, 2));
  EXPECT_THAT(list_steps(run.path()), ElementsAre(3));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(checkpoints_dir(run.path())), {}), 1);
  sample.expect_in(checkpoint_dir(run.path(), 3));
}

TEST(Retention, NeverDeletesTheOnlyValidOne) {
  TemporaryDirectory run;
  const Sample sample(1);
  for (int64_t step : {1, 2, 3, 4}) save_checkpoint(run.path(), step, sample.content());
  for (int64_t step : {3, 4}) std::filesystem::remove(checkpoint_dir(run.path(), step) / "model.safetensors");
  EXPECT_THAT(apply_retention(run.path(), keep(2)), ElementsAre(1));  // 3 and 4 are kept but broken: 2 stays
  EXPECT_EQ(latest_valid(run.path())->step, 2);
  EXPECT_THAT(apply_retention(run.path(), keep(2)), IsEmpty());
}

}  // namespace
}  // namespace polar::test

// Groups whose matrices are bf16 beside groups whose matrices are f32.
#include "config/reader.h"
#include "cuda/steps.h"

namespace polar::cuda::test {
namespace {

GroupConfig group(const char* match, const char* type) {
  GroupConfig group = group_defaults(type);
  group.match = {match};
  group.oracle.products = "reduced";  // of what has products
  return group;
}
GroupConfig exact(const char* match) {
  GroupConfig config = group(match, "polargrad");
  config.oracle.kind = OracleKind::svd;
  return config;
}

// With skipped steps, after which an oracle runs on what others have left: the SVD refuses what is no number.
std::vector<float> trained(const std::vector<GroupConfig>& groups, const char* parameter) {
  Both both;
  Steps steps(both.cuda, {.groups = groups});
  for (uint64_t step = 0; step < 4; ++step) {
    steps.step(step);
    const std::vector<float> before = steps.parameters();
    steps.step(step, false);
    EXPECT_EQ(steps.parameters(), before);
  }
  return steps.parameter(parameter);
}

TEST(CudaFormats, AGroupHasItsOwnWhateverTheOthersHave) {
  const std::vector<GroupConfig> mixed{group("up", "muon"), exact("attn"), group("long", "lion")};
  EXPECT_EQ(trained(mixed, "up"), trained({group("up", "muon"), group("*", "adamw")}, "up"));
  EXPECT_EQ(trained(mixed, "attn"), trained({exact("attn"), group("*", "adamw")}, "attn"));
  EXPECT_EQ(trained(mixed, "long"), trained({group("long", "lion"), group("*", "adamw")}, "long"));
  // And it makes a difference.
  GroupConfig full = group("up", "muon");
  full.oracle.products = "full";
  EXPECT_NE(trained(mixed, "up"), trained({full, group("*", "adamw")}, "up"));
}

}  // namespace
}  // namespace polar::cuda::test

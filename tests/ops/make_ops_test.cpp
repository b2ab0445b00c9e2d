// Choosing the device: what works on any machine, and what is said where there is no GPU.
#include <gmock/gmock.h>

#include "base/error.h"
#include "device.h"

namespace polar::testing {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string refusal(const std::string& device) {
  try {
    make_ops({.device = device, .threads = 1});
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
    return error.what();
  }
  return "";
}

TEST(MakeOps, AnUnknownDeviceIsNamed) {
  EXPECT_EQ(refusal("gpu"), "device 'gpu': expected auto, cpu or cuda");
}

TEST(MakeOps, TheCpuIsAlwaysThere) {
  EXPECT_THAT(make_ops({.device = "cpu", .threads = 1})->device_name(), StartsWith("cpu: 1 thread"));
}

TEST(MakeOps, TheCpuHasNoCudnn) {
  try {
    make_ops({.device = "cpu", .threads = 1, .attention_engine = "cudnn"});
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
    EXPECT_THAT(error.what(), HasSubstr("attention.engine: cudnn is for device cuda"));
  }
  EXPECT_THAT(make_ops({.device = "cpu", .threads = 1, .attention_engine = "auto"})->device_name(),
              StartsWith("cpu: "));
}

// "auto" is CUDA exactly where "cuda" is accepted; where it is not, the message says what was found.
TEST(MakeOps, AutoFollowsTheMachine) {
  const std::string problem = refusal("cuda");
  const std::string chosen = make_ops({.device = "auto", .threads = 1})->device_name();
  EXPECT_THAT(chosen, StartsWith(problem.empty() ? "cuda: " : "cpu: "));
  if (problem.empty()) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_THAT(problem, AllOf(StartsWith("device 'cuda': found "), HasSubstr("device 'cpu' always works")));
  EXPECT_THAT(problem, AnyOf(HasSubstr("no NVIDIA driver"), HasSubstr("no GPU"), HasSubstr("built without"),
                             HasSubstr("the NVIDIA driver is for"), HasSubstr("kernels need")));
}

TEST(MakeOps, BackendsAreDescribed) {
  EXPECT_THAT(describe_backends(), AllOf(HasSubstr("  cpu   cpu: "), HasSubstr("  cuda  ")));
}

}  // namespace
}  // namespace polar::testing

// How the tests of planted faults start the process that has to die: a fork where that will do; the program
// anew under the thread sanitizer, which loses track of its threads in a fork.
#include <gtest/gtest.h>

namespace polar::emulator::test {
namespace {

class DeathTestStyle : public testing::Environment {
  void SetUp() override {
#if defined(EMULATOR_TSAN)
    testing::FLAGS_gtest_death_test_style = "threadsafe";
#else
    testing::FLAGS_gtest_death_test_style = "fast";
#endif
  }
};
[[maybe_unused]] const testing::Environment* const style =
    testing::AddGlobalTestEnvironment(new DeathTestStyle);

}  // namespace
}  // namespace polar::emulator::test

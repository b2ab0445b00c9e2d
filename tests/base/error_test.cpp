// Errors carry a message and the exit code of the process.
#include "base/error.h"

#include <gtest/gtest.h>

namespace polar {
namespace {

TEST(Error, CodesAndMessages) {
  try {
    fail("cannot read {} of {} bytes", 3, 7);
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "cannot read 3 of 7 bytes");
    EXPECT_EQ(error.code(), ExitCode::failed);
  }
  try {
    fail_usage("found '{}'", "x");
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "found 'x'");
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
  }
  EXPECT_THROW(fail("x"), Error);
  EXPECT_THROW(fail_usage("x"), Error);
  EXPECT_EQ(static_cast<int>(ExitCode::stopped_by_signal), 3);
  EXPECT_EQ(static_cast<int>(ExitCode::stopped_by_guard), 4);
}

}  // namespace
}  // namespace polar

// Errors carry a message and the exit code of the process.
#include "base/error.h"

#include <gtest/gtest.h>

#include "errors.h"

namespace polar::test {
namespace {

TEST(Error, CodesAndMessages) {
  const Error failed = error_of([] { fail("cannot read {} of {} bytes", 3, 7); });
  EXPECT_STREQ(failed.what(), "cannot read 3 of 7 bytes");
  EXPECT_EQ(failed.code(), ExitCode::failed);
  const Error usage = error_of([] { fail_usage("found '{}'", "x"); });
  EXPECT_STREQ(usage.what(), "found 'x'");
  EXPECT_EQ(usage.code(), ExitCode::bad_usage);
  EXPECT_THROW(fail("x"), Error);
  EXPECT_THROW(fail_usage("x"), Error);
  EXPECT_EQ(static_cast<int>(ExitCode::stopped_by_signal), 3);
  EXPECT_EQ(static_cast<int>(ExitCode::stopped_by_guard), 4);
}

}  // namespace
}  // namespace polar::test

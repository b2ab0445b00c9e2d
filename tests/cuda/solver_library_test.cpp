// A cuSOLVER that cannot be had is an error that says what to do.
#include "backend/cuda/solver_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/cuda/runtime.h"
#include "errors.h"

namespace polar::cuda::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(CudaSolver, ALibraryThatIsNotThere) {
  EXPECT_THAT(
      polar::test::message_of([] { open_solver_library("libno-such-solver.so.12"); }),
      AllOf(HasSubstr("libno-such-solver.so.12"), HasSubstr("oracle svd, qdwh, zolo_pd and gram_eigh"),
            HasSubstr("LD_LIBRARY_PATH"), HasSubstr("polar_express")));
}

TEST(CudaSolver, ALibraryWithoutItsFunctions) {
  EXPECT_THAT(polar::test::message_of([] { open_solver_library("libm.so.6"); }),
              AllOf(HasSubstr("libm.so.6 has no function cusolverDnCreate"), HasSubstr("another version")));
}

TEST(CudaSolver, StatusesNameTheCallAndAWayOut) {
  EXPECT_THAT(polar::test::message_of([] { CUSOLVER_CHECK(CUSOLVER_STATUS_ALLOC_FAILED); }),
              AllOf(HasSubstr("solver_library_test.cpp:"), HasSubstr("CUSOLVER_STATUS_ALLOC_FAILED (2)"),
                    HasSubstr("micro_sequences")));
  EXPECT_NO_THROW(CUSOLVER_CHECK(CUSOLVER_STATUS_SUCCESS));
}

}  // namespace
}  // namespace polar::cuda::test

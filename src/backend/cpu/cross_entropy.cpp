// stub
#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
namespace polar::cpu {
void cross_entropy(const CrossEntropy&) {
  fail("not there yet");
}
size_t cross_entropy_workspace(int64_t, int64_t, int64_t, DType) {
  fail("not there yet");
}
}  // namespace polar::cpu

// stub
#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
namespace polar::cpu {
void qk_norm_rope_forward(const QkNormRopeForward&) {
  fail("not there yet");
}
void qk_norm_rope_backward(const QkNormRopeBackward&) {
  fail("not there yet");
}
size_t qk_norm_rope_backward_workspace(int64_t, int64_t, int64_t, DType) {
  fail("not there yet");
}
}  // namespace polar::cpu

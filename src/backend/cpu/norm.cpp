// stub
#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
namespace polar::cpu {
void rms_norm_forward(const RmsNormForward&) {
  fail("not there yet");
}
void rms_norm_backward(const RmsNormBackward&) {
  fail("not there yet");
}
size_t rms_norm_backward_workspace(int64_t, int64_t, DType) {
  fail("not there yet");
}
}  // namespace polar::cpu

// stub
#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
namespace polar::cpu {
void step_control(const StepControl&) {
  fail("not there yet");
}
void adamw(const AdamW&) {
  fail("not there yet");
}
void momentum_update(const MomentumUpdate&) {
  fail("not there yet");
}
void matrix_update(const MatrixUpdate&) {
  fail("not there yet");
}
}  // namespace polar::cpu

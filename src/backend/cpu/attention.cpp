// stub
#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
namespace polar::cpu {
void attention_forward(const AttentionForward&) {
  fail("not there yet");
}
void attention_backward(const AttentionBackward&) {
  fail("not there yet");
}
size_t attention_workspace(const AttentionShape&, DType) {
  fail("not there yet");
}
}  // namespace polar::cpu

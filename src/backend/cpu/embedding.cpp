// stub
#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
namespace polar::cpu {
void embedding_forward(const Tensor&, const Tensor&, const MatrixView&) {
  fail("not there yet");
}
void embedding_backward(const Tensor&, const MatrixView&, const Tensor&, const Tensor&) {
  fail("not there yet");
}
size_t embedding_backward_workspace(int64_t) {
  fail("not there yet");
}
}  // namespace polar::cpu

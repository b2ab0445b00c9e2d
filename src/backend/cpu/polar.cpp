// stub
#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
namespace polar::cpu {
void polar_normalize(const Tensor&, double, double) {
  fail("not there yet");
}
void polar_gram(const Tensor&, const Tensor&) {
  fail("not there yet");
}
void polar_polynomial(const Tensor&, double, double, const Tensor&) {
  fail("not there yet");
}
void polar_apply(const Tensor&, double, const Tensor&, const Tensor&) {
  fail("not there yet");
}
void polar_inner(const Tensor&, const Tensor&, const Tensor&) {
  fail("not there yet");
}
void polar_svd(const Tensor&, const Tensor&, const Tensor&) {
  fail("not there yet");
}
size_t polar_svd_workspace(int64_t, int64_t, int64_t, DType) {
  fail("not there yet");
}
}  // namespace polar::cpu

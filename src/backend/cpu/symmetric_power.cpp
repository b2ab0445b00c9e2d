// Powers of symmetric matrices through LAPACK's divide-and-conquer eigenvalues, in f64: the squares of an
// ill-conditioned gradient have eigenvalues that f32 does not hold apart.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/gemm_product.h"
#include "backend/cpu/lapack.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

constexpr int64_t kMaximumSlots = 16;  // matrices at work at the same time

int64_t aligned(int64_t elements) {
  return (elements + 31) / 32 * 32;
}

// What LAPACK asks for, from its documentation: 1 + 6 s + 2 s^2 and 3 + 5 s.
int64_t work_elements(int64_t size) {
  return 1 + 6 * size + 2 * size * size;
}
int64_t integer_count(int64_t size) {
  return 3 + 5 * size;
}
// Of a slot, in f64: vectors, scaled vectors and result, values, LAPACK's space.
int64_t slot_elements(int64_t size) {
  return aligned(size * size) + aligned(size) + aligned(work_elements(size)) +
         aligned((integer_count(size) * static_cast<int64_t>(sizeof(blasint)) + 7) / 8);
}

// p = V f(values) V^T; false if LAPACK did not get there.
template <class T>
bool power(int64_t size, const T* a, double exponent, double shift, T* p, double* slot) {
  double* vectors = slot;
  double* values = vectors + aligned(size * size);
  double* work = values + aligned(size);
  auto* integers = reinterpret_cast<blasint*>(work + aligned(work_elements(size)));
  std::copy_n(a, size * size, vectors);
  const auto n = static_cast<blasint>(size), work_size = static_cast<blasint>(work_elements(size)),
             integer_size = static_cast<blasint>(integer_count(size));
  blasint info = 0;
  dsyevd_("V", "L", &n, vectors, &n, values, work, &work_size, integers, &integer_size, &info);
  if (info != 0) return false;
  const double largest = values[size - 1];  // ascending
  const double threshold = static_cast<double>(size) * std::numeric_limits<T>::epsilon() * largest;
  // LAPACK's column k is the row k of `vectors` here; work has room for the rows times their factors.
  for (int64_t k = 0; k < size; ++k) {
    const double value = shift > 0.0 ? std::max(values[k], 0.0) + shift : values[k];
    const double factor = shift > 0.0 || value > threshold ? std::pow(value, exponent) : 0.0;
    for (int64_t i = 0; i < size; ++i) work[k * size + i] = factor * vectors[k * size + i];
  }
  double* result = work + size * size;  // work has 2 s^2 elements and more
  multiply(MatrixProduct<double>{.rows = size,
                                 .cols = size,
                                 .depth = size,
                                 .alpha = 1.0,
                                 .a = {work, size, true},
                                 .b = {vectors, size, false},
                                 .beta = 0.0,
                                 .addend = nullptr,
                                 .addend_stride = 0,
                                 .c = result,
                                 .c_stride = size});
  for (int64_t i = 0; i < size; ++i)
    for (int64_t j = 0; j < size; ++j)  // symmetric to the last bit
      p[i * size + j] = static_cast<T>(0.5 * (result[i * size + j] + result[j * size + i]));
  return true;
}

}  // namespace

void symmetric_power(const Tensor& a, double exponent, const Tensor& p, const Tensor& workspace,
                     double shift) {
  require(a.shape.rank() == 3 && a.shape[1] == a.shape[2] && a.shape == p.shape && a.dtype == p.dtype,
          "symmetric_power: a and p (batch, s, s), one dtype");
  const int64_t batch = a.shape[0], size = a.shape[1], slots = std::min(batch, kMaximumSlots);
  require(workspace.bytes() >= symmetric_power_workspace(batch, size, a.dtype),
          "symmetric_power: workspace too small");
  bool failed[kMaximumSlots] = {};
  dispatch(a.dtype, "symmetric_power", [&]<class T>(T) {
    parallel_for(slots, [&](int64_t s) {
      for (int64_t i = s; i < batch && !failed[s]; i += slots) {
        const T* matrix = a.as<const T>() + i * size * size;
        failed[s] = !all_finite(matrix, size * size) ||
                    !power(size, matrix, exponent, shift, p.as<T>() + i * size * size,
                           workspace.as<double>() + s * slot_elements(size));
      }
    });
  });
  if (std::any_of(failed, failed + slots, [](bool f) { return f; }))
    fail(
        "symmetric_power: a matrix of {} holds NaN or infinity, or its eigenvalues did not converge; use a "
        "lower learning rate",
        a.shape.text());
}

size_t symmetric_power_workspace(int64_t batch, int64_t size, DType /*dtype*/) {
  return static_cast<size_t>(std::min(batch, kMaximumSlots) * slot_elements(size)) * sizeof(double);
}

}  // namespace polar::cpu

// Bases of eigenvectors through LAPACK: by divide and conquer in f64, or one step of orthogonal iteration.
// A row-major matrix whose rows are the vectors is, for LAPACK, one whose columns they are.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/lapack.h"

namespace polar::cpu {
namespace {

constexpr int64_t kBlock = 64;  // columns that LAPACK's blocked QR takes together, at most

int64_t aligned(int64_t elements) {
  return (elements + 31) / 32 * 32;
}

// In f64, of LAPACK's eigenvectors (symmetric_power.cpp) and of the iteration: products, their order by size,
// reflectors, LAPACK's space.
int64_t exact_elements(int64_t size) {
  const int64_t integers = (3 + 5 * size) * static_cast<int64_t>(sizeof(blasint));
  return aligned(size * size) + aligned(size) + aligned(1 + 6 * size + 2 * size * size) +
         aligned((integers + 7) / 8);
}
int64_t iteration_elements(int64_t size) {
  return aligned(size * size) + 3 * aligned(size) + aligned(kBlock * size);
}

template <class T>
bool find_exactly(int64_t size, const T* a, double* memory, T* out) {
  double* vectors = memory;
  double* values = vectors + aligned(size * size);
  double* work = values + aligned(size);
  const int64_t work_elements = 1 + 6 * size + 2 * size * size;
  auto* integers = reinterpret_cast<blasint*>(work + aligned(work_elements));
  std::copy_n(a, size * size, vectors);
  const auto n = static_cast<blasint>(size), work_size = static_cast<blasint>(work_elements),
             integer_size = static_cast<blasint>(3 + 5 * size);
  blasint info = 0;
  dsyevd_("V", "L", &n, vectors, &n, values, work, &work_size, integers, &integer_size, &info);
  std::transform(vectors, vectors + size * size, out, [](double x) { return static_cast<T>(x); });
  return info == 0;
}

template <class T>
bool iterate(const Eigenbasis& args, int64_t size, double* memory) {
  auto* products = reinterpret_cast<T*>(memory);
  double* estimates = memory + aligned(size * size);
  auto* order = reinterpret_cast<int64_t*>(estimates + aligned(size));
  auto* tau = reinterpret_cast<T*>(estimates + 2 * aligned(size));
  auto* work = reinterpret_cast<T*>(estimates + 3 * aligned(size));
  gemm(Transpose::no, Transpose::no, 1.0, args.basis, args.a, 0.0,
       {products, args.a.dtype, size, size, size});
  const T* basis = args.basis.as<const T>();
  T* out = args.out.as<T>();
  for (int64_t i = 0; i < size; ++i)
    estimates[i] = std::inner_product(basis + i * size, basis + (i + 1) * size, products + i * size, 0.0);
  std::iota(order, order + size, int64_t{0});
  std::sort(order, order + size, [&](int64_t i, int64_t j) {
    return estimates[i] != estimates[j] ? estimates[i] > estimates[j] : i < j;
  });
  for (int64_t i = 0; i < size; ++i) std::copy_n(products + order[i] * size, size, out + i * size);
  const auto n = static_cast<blasint>(size), work_size = static_cast<blasint>(kBlock * size);
  blasint info = 0;
  Lapack<T>::geqrf(&n, &n, out, &n, tau, work, &work_size, &info);
  if (info != 0) return false;
  Lapack<T>::orgqr(&n, &n, &n, out, &n, tau, work, &work_size, &info);
  std::copy_n(out, size * size, products);
  for (int64_t i = 0; i < size; ++i) std::copy_n(products + i * size, size, out + order[i] * size);
  return info == 0;
}

}  // namespace

void eigenbasis(const Eigenbasis& args) {
  const Tensor& a = args.a;
  require(a.shape.rank() == 2 && a.shape[0] == a.shape[1] && a.shape == args.out.shape &&
              a.dtype == args.out.dtype && args.out.data != a.data && args.out.data != args.basis.data,
          "eigenbasis: a and out (s, s), one dtype, two places");
  require(!args.basis || (args.basis.shape == a.shape && args.basis.dtype == a.dtype),
          "eigenbasis: basis (s, s), of a's dtype");
  const int64_t size = a.shape[0];
  require(args.workspace.bytes() >= eigenbasis_workspace(size, a.dtype), "eigenbasis: workspace too small");
  if (size == 0) return;
  dispatch(a.dtype, "eigenbasis", [&]<class T>(T) {
    auto* memory = args.workspace.as<double>();
    const bool done = all_finite(a.as<const T>(), size * size) &&
                      (args.basis ? iterate<T>(args, size, memory)
                                  : find_exactly(size, a.as<const T>(), memory, args.out.as<T>()));
    if (!done)
      fail(
          "eigenbasis: a matrix of {} holds NaN or infinity, or its eigenvectors did not converge; use a "
          "lower learning rate",
          a.shape.text());
  });
}

size_t eigenbasis_workspace(int64_t size, DType /*dtype*/) {
  return static_cast<size_t>(std::max(exact_elements(size), iteration_elements(size))) * sizeof(double);
}

}  // namespace polar::cpu

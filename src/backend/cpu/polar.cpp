// Norms and inner products of batches of matrices, in f64.
#include <algorithm>
#include <cmath>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/lanes.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

// A matrix is summed in this many chunks at most, in an order that depends on its size alone.
constexpr int64_t kMaximumChunks = 256;
// Matrices from this size on are cut into parallel chunks one after the other; smaller ones are whole tasks.
constexpr int64_t kLargeMatrix = int64_t{1} << 20;

void require_batch(const Tensor& x) {
  require(x.shape.rank() == 3, "polar: a batch of matrices (batch, m, n)");
}

// The inner product of two arrays in f64. In a parallel loop already, the chunks run one by one: same bits.
template <class T>
double inner(const T* x, const T* y, int64_t count) {
  double partial[kMaximumChunks];
  const int64_t size = std::max(kTaskElements, divide_up(count, kMaximumChunks));
  parallel_ranges(count, size, [&](int64_t begin, int64_t end) {
    partial[begin / size] = lane_sum<double>(end - begin, [&](int64_t i) {
      return static_cast<double>(x[begin + i]) * static_cast<double>(y[begin + i]);
    });
  });
  double total = 0.0;
  for (int64_t i = 0; i < divide_up(count, size); ++i) total += partial[i];
  return total;
}

template <class Task>
void for_each_matrix(int64_t batch, int64_t count, const Task& task) {
  if (count < kLargeMatrix)
    parallel_for(batch, task);
  else
    for (int64_t i = 0; i < batch; ++i) task(i);
}

template <class T>
void multiply(T* x, int64_t count, T factor) {
  parallel_ranges(count, kTaskElements, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) x[i] *= factor;
  });
}

}  // namespace

void polar_normalize(const Tensor& x, double safety, double eps) {
  require_batch(x);
  const int64_t batch = x.shape[0], count = x.shape[1] * x.shape[2];
  dispatch(x.dtype, "polar_normalize", [&]<class T>(T) {
    for_each_matrix(batch, count, [&](int64_t i) {
      T* matrix = x.as<T>() + i * count;
      const double norm = std::sqrt(inner<T>(matrix, matrix, count));
      if (norm > 0.0) multiply(matrix, count, static_cast<T>(1.0 / (safety * norm + eps)));
    });
  });
}

void polar_inner(const Tensor& x, const Tensor& y, const Tensor& out) {
  require_batch(x);
  const int64_t batch = x.shape[0], count = x.shape[1] * x.shape[2];
  require(x.shape == y.shape && x.dtype == y.dtype, "polar_inner: same shape and dtype");
  require(out.dtype == DType::f64 && out.count() == batch, "polar_inner: out F64 (batch)");
  dispatch(x.dtype, "polar_inner", [&]<class T>(T) {
    for_each_matrix(batch, count, [&](int64_t i) {
      out.as<double>()[i] = inner(x.as<const T>() + i * count, y.as<const T>() + i * count, count);
    });
  });
}

}  // namespace polar::cpu

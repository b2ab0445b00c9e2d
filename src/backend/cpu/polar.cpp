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
constexpr double kSmallestSquare = 1e-10;  // of NorMuon's second moments

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

// Calls take(neuron, sum of squares): rows of a tall matrix, columns of a wide one, several at a time.
template <class T, class Take>
void for_neuron_sums(const T* matrix, int64_t m, int64_t n, const Take& take) {
  constexpr int64_t kWidth = 64;
  if (m >= n) {
    for (int64_t j = 0; j < m; ++j)
      take(j, lane_sum<double>(n, [&](int64_t k) {
             const auto value = static_cast<double>(matrix[j * n + k]);
             return value * value;
           }));
    return;
  }
  for (int64_t first = 0; first < n; first += kWidth) {
    double sums[kWidth] = {};
    const int64_t count = std::min(kWidth, n - first);
    for (int64_t j = 0; j < m; ++j)
      for (int64_t k = 0; k < count; ++k) {
        const auto value = static_cast<double>(matrix[j * n + first + k]);
        sums[k] += value * value;
      }
    for (int64_t k = 0; k < count; ++k) take(first + k, sums[k]);
  }
}

// Of what a neuron is multiplied with, by its second moment.
template <class T>
double squared_factor(T second_moment) {
  return 1.0 / std::max(static_cast<double>(second_moment), kSmallestSquare);
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

void polar_precondition(const Tensor& x, const Tensor& a, const Tensor& factors) {
  require_batch(x);
  const int64_t batch = x.shape[0], m = x.shape[1], n = x.shape[2], s = std::min(m, n);
  require(a.dtype == x.dtype && a.count() == batch * s * s, "polar_precondition: a (batch, s, s), one dtype");
  require(factors.dtype == DType::f64 && factors.count() == batch * s,
          "polar_precondition: factors F64 (batch, s)");
  dispatch(x.dtype, "polar_precondition", [&]<class T>(T) {
    parallel_for(batch, [&](int64_t b) {
      T *gram = a.as<T>() + b * s * s, *matrix = x.as<T>() + b * m * n;
      double* factor = factors.as<double>() + b * s;
      for (int64_t j = 0; j < s; ++j) {
        double sum = 0.0;
        for (int64_t k = 0; k < s; ++k) sum += std::abs(static_cast<double>(gram[j * s + k]));
        factor[j] = sum > 0.0 ? 1.0 / std::sqrt(sum) : 0.0;
      }
      for (int64_t j = 0; j < s; ++j)
        for (int64_t k = 0; k < s; ++k) gram[j * s + k] *= static_cast<T>(factor[j] * factor[k]);
      for (int64_t j = 0; j < m; ++j)
        for (int64_t k = 0; k < n; ++k) matrix[j * n + k] *= static_cast<T>(factor[m <= n ? j : k]);
    });
  });
}

void normalize_neurons(const Tensor& x, const Tensor& squares, double beta, const Tensor& control) {
  require_batch(x);
  const int64_t batch = x.shape[0], m = x.shape[1], n = x.shape[2];
  const int64_t neurons = std::max(m, n), width = std::min(m, n);
  require(squares.dtype == x.dtype && squares.count() == batch * neurons,
          "normalize_neurons: squares (batch, max(m, n)) in the dtype of x");
  const bool apply = control.as<double>()[kControlApply] != 0.0, rows = m >= n;
  dispatch(x.dtype, "normalize_neurons", [&]<class T>(T) {
    parallel_for(batch, [&](int64_t b) {
      T *matrix = x.as<T>() + b * m * n, *state = squares.as<T>() + b * neurons;
      double before = 0.0, after = 0.0;
      for_neuron_sums(matrix, m, n, [&](int64_t i, double sum) {
        const double mean = sum / static_cast<double>(width);
        if (apply) state[i] = static_cast<T>(beta * static_cast<double>(state[i]) + (1.0 - beta) * mean);
        before += sum;
        after += sum * squared_factor(state[i]);
      });
      const double again = after > 0.0 ? before / after : 0.0;
      for (int64_t j = 0; j < m; ++j)
        for (int64_t k = 0; k < n; ++k)
          matrix[j * n + k] *= static_cast<T>(std::sqrt(again * squared_factor(state[rows ? j : k])));
    });
  });
}

void sign(const Tensor& x) {
  dispatch(x.dtype, "sign", [&]<class T>(T) {
    T* values = x.as<T>();
    parallel_ranges(x.count(), kTaskElements, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        values[i] = values[i] > T(0) ? T(1) : values[i] < T(0) ? T(-1) : values[i];
    });
  });
}

}  // namespace polar::cpu

// Cross-entropy fused with the head's products and with its backward pass, in chunks of rows: one chunk of
// logits exists at a time and is overwritten by its own gradient.
//
// A row with logits y (capped: y = c tanh(x / c)), p = softmax(y), target t:
//   loss = lse - y_t,   d(loss + z lse^2)/dy_j = p_j (1 + 2 z lse) - [j = t],   dy/dx = 1 - (y / c)^2.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/lanes.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"

namespace polar::cpu {
namespace {

constexpr int64_t kRowsPerChunk = 256;  // enough rows for the products with the head to be worth its reading
constexpr int64_t kRowsPerTask = 4;
constexpr int64_t kColumnsPerSum = 2048;  // summed in T; the sums of these are added in double

// Gradients below this are taken as 0: their products with weights would be denormal numbers, each of which
// costs the processor as much as a hundred others.
template <class T>
constexpr T kNegligible = std::numeric_limits<T>::min() * T(1 << 26);

// exp(x) for x <= 0, with the smallest normal number for what would be below it: beside the row's greatest
// term, which is 1, neither counts.
template <class T>
[[gnu::always_inline]] inline T normal_exp(T x) {
  constexpr T lowest = sizeof(T) == 4 ? T(-87) : T(-708);
  return vector_math::exp(x < lowest ? lowest : x);
}

// max_j y_j and sum_j exp(y_j - maximum): log sum exp without overflow and without cancellation.
template <class T>
struct LogSum {
  T maximum;
  double sum;
  double value() const { return static_cast<double>(maximum) + std::log(sum); }
};

template <class T>
void cap(T* logits, int64_t count, T softcap) {
  const T inverse = T(1) / softcap;
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) logits[j] = softcap * vector_math::tanh(logits[j] * inverse);
}

template <class T>
LogSum<T> log_sum(const T* logits, int64_t count) {
  LogSum<T> result{logits[0], 0.0};
  T maximum = logits[0];
#pragma omp simd reduction(max : maximum)
  for (int64_t j = 0; j < count; ++j) maximum = logits[j] > maximum ? logits[j] : maximum;
  result.maximum = maximum;
  for (int64_t begin = 0; begin < count; begin += kColumnsPerSum) {
    const T* from = logits + begin;
    result.sum += static_cast<double>(lane_sum<T>(std::min(kColumnsPerSum, count - begin),
                                                  [&](int64_t j) { return normal_exp(from[j] - maximum); }));
  }
  return result;
}

// Turns a row of (capped) logits into its gradient.
template <class T>
void gradient_row(const CrossEntropy& args, T* logits, int64_t count, const LogSum<T>& log_sum_exp,
                  int32_t target) {
  const T softcap = static_cast<T>(args.softcap), maximum = log_sum_exp.maximum;
  const T inverse_cap = softcap > T(0) ? T(1) / softcap : T(0);  // no cap: dy/dx = 1
  const double z_factor = 1.0 + 2.0 * args.z_loss * log_sum_exp.value();
  const T factor = static_cast<T>(args.gradient_scale * z_factor / log_sum_exp.sum);
  const T target_ratio = logits[target] * inverse_cap;
  const T target_probability = normal_exp(logits[target] - maximum);
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) {
    const T ratio = logits[j] * inverse_cap;
    const T gradient = normal_exp(logits[j] - maximum) * factor * (T(1) - ratio * ratio);
    logits[j] = std::abs(gradient) < kNegligible<T> ? T(0) : gradient;
  }
  logits[target] = (target_probability * factor - static_cast<T>(args.gradient_scale)) *
                   (T(1) - target_ratio * target_ratio);
}

// One row of a chunk: losses and lse, and with a backward pass the gradient in place of the logits.
template <class T>
void finish_row(const CrossEntropy& args, int64_t row, T* logits) {
  const int64_t vocabulary = args.head.shape[0];
  const int32_t target = args.targets.as<int32_t>()[row];
  const bool ignored = target == args.ignore_index;
  if (!ignored || args.lse) {
    if (args.softcap > 0.0) cap(logits, vocabulary, static_cast<T>(args.softcap));
    const LogSum<T> log_sum_exp = log_sum(logits, vocabulary);
    if (args.lse) args.lse.as<T>()[row] = static_cast<T>(log_sum_exp.value());
    if (!ignored) {
      const double gap = static_cast<double>(log_sum_exp.maximum) - static_cast<double>(logits[target]);
      args.losses.as<T>()[row] = static_cast<T>(gap + std::log(log_sum_exp.sum));
      if (args.dhidden.data != nullptr) gradient_row(args, logits, vocabulary, log_sum_exp, target);
      return;
    }
  }
  args.losses.as<T>()[row] = T(0);
  if (args.dhidden.data != nullptr) std::fill_n(logits, vocabulary, T(0));
}

template <class T>
void chunk(const CrossEntropy& args, int64_t first, int64_t rows) {
  const MatrixView hidden = args.hidden.rows_from(first, rows);
  const MatrixView logits(args.workspace.data, args.hidden.dtype, rows, args.head.shape[0],
                          args.head.shape[0]);
  gemm(Transpose::no, Transpose::yes, 1.0, hidden, args.head, 0.0, logits);
  parallel_for(divide_up(rows, kRowsPerTask), [&](int64_t task) {
    const int64_t end = std::min(rows, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row)
      finish_row(args, first + row, static_cast<T*>(logits.data) + row * logits.stride);
  });
  if (args.dhidden.data == nullptr) return;
  gemm(Transpose::no, Transpose::no, 1.0, logits, args.head, 0.0, args.dhidden.rows_from(first, rows));
  gemm(Transpose::yes, Transpose::no, 1.0, logits, hidden, 1.0, args.dhead);
}

void check(const CrossEntropy& args) {
  const int64_t rows = args.hidden.rows, cols = args.hidden.cols;
  const DType dtype = args.hidden.dtype;
  require(args.head.shape.rank() == 2 && args.head.shape[1] == cols && args.head.dtype == dtype,
          "cross_entropy: head (V, C)");
  require(args.targets.dtype == DType::i32 && args.targets.count() == rows, "cross_entropy: targets i32 (N)");
  require(args.losses && args.losses.dtype == dtype && args.losses.count() == rows,
          "cross_entropy: losses (N)");
  require(!args.lse || (args.lse.dtype == dtype && args.lse.count() == rows), "cross_entropy: lse (N)");
  require(args.softcap >= 0.0, "cross_entropy: softcap >= 0");
  require(args.workspace.bytes() >= cross_entropy_workspace(rows, cols, args.head.shape[0], dtype),
          "cross_entropy: cross_entropy_workspace(N, C, V) bytes of workspace");
  if (args.dhidden.data != nullptr) {
    require(args.dhidden.dtype == dtype && args.dhidden.rows == rows && args.dhidden.cols == cols,
            "cross_entropy: dhidden (N, C)");
    require(args.dhead && args.dhead.dtype == dtype && args.dhead.shape == args.head.shape,
            "cross_entropy: dhead (V, C)");
  }
  const int32_t* targets = args.targets.as<int32_t>();
  require(std::all_of(targets, targets + rows,
                      [&](int32_t target) {
                        return target == args.ignore_index || (target >= 0 && target < args.head.shape[0]);
                      }),
          "cross_entropy: targets are ignore_index or in [0, V)");
}

}  // namespace

size_t cross_entropy_workspace(int64_t rows, int64_t /*cols*/, int64_t vocabulary, DType dtype) {
  return static_cast<size_t>(std::min(rows, kRowsPerChunk) * vocabulary) * size_of(dtype);
}

void cross_entropy(const CrossEntropy& args) {
  check(args);
  dispatch(args.hidden.dtype, "cross_entropy", [&](auto zero) {
    for (int64_t first = 0; first < args.hidden.rows; first += kRowsPerChunk)
      chunk<decltype(zero)>(args, first, std::min(kRowsPerChunk, args.hidden.rows - first));
  });
}

}  // namespace polar::cpu

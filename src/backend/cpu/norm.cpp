// RMSNorm of rows. Forward: two passes over a row that stays in the cache. Backward: two as well; the
// weight's gradient is summed over blocks of rows whose number depends on the shape alone, then over the
// blocks in turn.
#include <algorithm>
#include <cmath>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/lanes.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/row_blocks.h"

namespace polar::cpu {
namespace {

template <class T>
T* row_of(const MatrixView& m, int64_t row) {
  return static_cast<T*>(m.data) + row * m.stride;
}

template <class T>
void forward_row(const RmsNormForward& args, int64_t row) {
  const int64_t cols = args.input.cols;
  const T* x = row_of<const T>(args.input, row);
  T squares;
  if (args.residual.data != nullptr) {
    const T* residual = row_of<const T>(args.residual, row);
    T* sum = row_of<T>(args.sum, row);
    squares = lane_sum<T>(cols, [=](int64_t j) {
      const T s = x[j] + residual[j];
      sum[j] = s;
      return s * s;
    });
    x = sum;
  } else {
    squares = lane_sum<T>(cols, [=](int64_t j) { return x[j] * x[j]; });
  }
  const T rstd = T(1) / std::sqrt(squares / static_cast<T>(cols) + static_cast<T>(args.eps));
  args.rstd.as<T>()[row] = rstd;
  const T* weight = args.weight.as<T>();
  T* y = row_of<T>(args.output, row);
#pragma omp simd
  for (int64_t j = 0; j < cols; ++j) y[j] = x[j] * rstd * weight[j];
}

// With g = weight * dy and n = x * rstd: dx += rstd * (g - n * mean(g n)), dweight += dy * n.
template <class T>
void backward_row(const RmsNormBackward& args, int64_t row, T* dweight) {
  const int64_t cols = args.input.cols;
  const T* dy = row_of<const T>(args.doutput, row);
  const T* x = row_of<const T>(args.input, row);
  const T* weight = args.weight.as<T>();
  T* dx = row_of<T>(args.dinput, row);
  const T rstd = args.rstd.as<T>()[row];
  const T inner = lane_sum<T>(cols, [=](int64_t j) { return weight[j] * dy[j] * x[j]; });
  const T mean = inner * rstd / static_cast<T>(cols);
#pragma omp simd
  for (int64_t j = 0; j < cols; ++j) {
    const T normalized = x[j] * rstd;
    dx[j] += rstd * (weight[j] * dy[j] - normalized * mean);
    dweight[j] += dy[j] * normalized;
  }
}

bool same_shape(const MatrixView& a, const MatrixView& b) {
  return a.rows == b.rows && a.cols == b.cols && a.dtype == b.dtype;
}

}  // namespace

void rms_norm_forward(const RmsNormForward& args) {
  const int64_t rows = args.input.rows, cols = args.input.cols;
  require(same_shape(args.input, args.output), "rms_norm_forward: input and output (N, C)");
  require(args.residual.data == nullptr ||
              (same_shape(args.input, args.residual) && same_shape(args.input, args.sum)),
          "rms_norm_forward: residual and sum (N, C)");
  require(args.weight.count() == cols && args.rstd.count() == rows && args.weight.dtype == args.input.dtype &&
              args.rstd.dtype == args.input.dtype,
          "rms_norm_forward: weight (C), rstd (N)");
  dispatch(args.input.dtype, "rms_norm_forward", [&]<class T>(T) {
    parallel_ranges(rows, std::max<int64_t>(1, kTaskElements / cols), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) forward_row<T>(args, row);
    });
  });
}

void rms_norm_backward(const RmsNormBackward& args) {
  const int64_t rows = args.input.rows, cols = args.input.cols;
  require(same_shape(args.input, args.doutput) && same_shape(args.input, args.dinput),
          "rms_norm_backward: doutput, input and dinput (N, C)");
  require(args.weight.count() == cols && args.dweight.count() == cols && args.rstd.count() == rows &&
              args.weight.dtype == args.input.dtype && args.dweight.dtype == args.input.dtype &&
              args.rstd.dtype == args.input.dtype,
          "rms_norm_backward: weight and dweight (C), rstd (N)");
  require(args.workspace.bytes() >= rms_norm_backward_workspace(rows, cols, args.input.dtype),
          "rms_norm_backward: workspace too small");
  dispatch(args.input.dtype, "rms_norm_backward", [&]<class T>(T) {
    accumulate_row_blocks(rows, cols, args.workspace.as<T>(), args.dweight.as<T>(),
                          [&](int64_t row, T* dweight) { backward_row<T>(args, row, dweight); });
  });
}

size_t rms_norm_backward_workspace(int64_t rows, int64_t cols, DType dtype) {
  return row_block_workspace(rows, cols, dtype);
}

}  // namespace polar::cpu

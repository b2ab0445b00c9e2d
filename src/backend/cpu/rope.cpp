// Per-head RMSNorm and rotary embedding in one pass over each head.
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
const T* table_row(const QkNormRope& args, int64_t row) {
  return args.rope_table.as<T>() + (args.first_position + row % args.time) * args.head_dim;
}

template <class T>
T rstd_of(const T* x, int64_t width, double eps) {
  const T squares = lane_sum<T>(width, [=](int64_t j) { return x[j] * x[j]; });
  return T(1) / std::sqrt(squares / static_cast<T>(width) + static_cast<T>(eps));
}

// y may be x: both halves of a pair are read before either is written.
template <class T>
void rotate(const T* x, const T* cosine, int64_t half, T* y) {
  const T* sine = cosine + half;
#pragma omp simd
  for (int64_t j = 0; j < half; ++j) {
    const T a = x[j], b = x[half + j];
    y[j] = a * cosine[j] - b * sine[j];
    y[half + j] = b * cosine[j] + a * sine[j];
  }
}

template <class T>
void normalize_and_rotate(const T* x, const T* weight, T rstd, const T* cosine, int64_t half, T* y) {
  const T* sine = cosine + half;
#pragma omp simd
  for (int64_t j = 0; j < half; ++j) {
    const T a = x[j] * rstd * weight[j], b = x[half + j] * rstd * weight[half + j];
    y[j] = a * cosine[j] - b * sine[j];
    y[half + j] = b * cosine[j] + a * sine[j];
  }
}

template <class T>
void rotate_back(T* gradient, const T* cosine, int64_t half) {
  const T* sine = cosine + half;
#pragma omp simd
  for (int64_t j = 0; j < half; ++j) {
    const T a = gradient[j], b = gradient[half + j];
    gradient[j] = a * cosine[j] + b * sine[j];
    gradient[half + j] = b * cosine[j] - a * sine[j];
  }
}

// The backward pass of y = x * rstd * weight, in place; as in norm.cpp.
template <class T>
void norm_backward(const T* x, const T* weight, int64_t width, double eps, T* gradient, T* dweight) {
  const T rstd = rstd_of(x, width, eps);
  const T inner = lane_sum<T>(width, [=](int64_t j) { return weight[j] * gradient[j] * x[j]; });
  const T mean = inner * rstd / static_cast<T>(width);
#pragma omp simd
  for (int64_t j = 0; j < width; ++j) {
    const T normalized = x[j] * rstd;
    const T dy = gradient[j];
    gradient[j] = rstd * (weight[j] * dy - normalized * mean);
    dweight[j] += dy * normalized;
  }
}

template <class T>
void forward_row(const QkNormRopeForward& args, int64_t row) {
  const int64_t width = args.head_dim, half = width / 2;
  const T* cosine = table_row<T>(args, row);
  for (int64_t head = 0; head < args.heads; ++head) {
    const T* x = static_cast<const T*>(args.input.data) + row * args.input.stride + head * width;
    T* y = static_cast<T*>(args.output.data) + row * args.output.stride + head * width;
    if (args.weight)
      normalize_and_rotate(x, args.weight.as<const T>(), rstd_of(x, width, args.eps), cosine, half, y);
    else
      rotate(x, cosine, half, y);
  }
}

// dweight is null without a norm.
template <class T>
void backward_row(const QkNormRopeBackward& args, int64_t row, T* dweight) {
  const int64_t width = args.head_dim;
  const T* cosine = table_row<T>(args, row);
  for (int64_t head = 0; head < args.heads; ++head) {
    T* gradient = static_cast<T*>(args.dgradient.data) + row * args.dgradient.stride + head * width;
    rotate_back(gradient, cosine, width / 2);
    if (dweight == nullptr) continue;
    const T* x = static_cast<const T*>(args.input.data) + row * args.input.stride + head * width;
    norm_backward(x, args.weight.as<const T>(), width, args.eps, gradient, dweight);
  }
}

void require_contract(const QkNormRope& args, const Tensor& weight, const MatrixView& x) {
  require(x.cols == args.heads * args.head_dim && args.head_dim % 2 == 0 && args.time > 0,
          "qk_norm_rope: rows of heads * head_dim elements, an even head_dim, time > 0");
  require(!weight || (weight.count() == args.head_dim && weight.dtype == x.dtype),
          "qk_norm_rope: weight (D)");
  require(args.rope_table.dtype == x.dtype && args.rope_table.shape.rank() == 2 &&
              args.rope_table.shape[1] == args.head_dim &&
              args.first_position + std::min(args.time, x.rows) <= args.rope_table.shape[0],
          "qk_norm_rope: rope_table (positions, D) covers every position");
}

}  // namespace

void qk_norm_rope_forward(const QkNormRopeForward& args) {
  require_contract(args, args.weight, args.input);
  require(args.output.rows == args.input.rows && args.output.cols == args.input.cols &&
              args.output.dtype == args.input.dtype,
          "qk_norm_rope_forward: input and output (N, heads*D)");
  const int64_t rows_per_task = std::max<int64_t>(1, kTaskElements / args.input.cols);
  dispatch(args.input.dtype, "qk_norm_rope_forward", [&]<class T>(T) {
    parallel_ranges(args.input.rows, rows_per_task, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) forward_row<T>(args, row);
    });
  });
}

void qk_norm_rope_backward(const QkNormRopeBackward& args) {
  const MatrixView& gradient = args.dgradient;
  require_contract(args, args.weight, gradient);
  const bool norm = static_cast<bool>(args.weight);
  require(!norm || (args.input.rows == gradient.rows && args.input.cols == gradient.cols &&
                    args.input.dtype == gradient.dtype && args.dweight.count() == args.head_dim &&
                    args.dweight.dtype == gradient.dtype),
          "qk_norm_rope_backward: input (N, heads*D), dweight (D)");
  require(!norm || args.workspace.bytes() >= qk_norm_rope_backward_workspace(gradient.rows, args.heads,
                                                                             args.head_dim, gradient.dtype),
          "qk_norm_rope_backward: workspace too small");
  dispatch(gradient.dtype, "qk_norm_rope_backward", [&]<class T>(T) {
    if (norm) {
      accumulate_row_blocks(gradient.rows, args.head_dim, args.workspace.as<T>(), args.dweight.as<T>(),
                            [&](int64_t row, T* dweight) { backward_row<T>(args, row, dweight); });
      return;
    }
    const int64_t rows_per_task = std::max<int64_t>(1, kTaskElements / gradient.cols);
    parallel_ranges(gradient.rows, rows_per_task, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) backward_row<T>(args, row, nullptr);
    });
  });
}

size_t qk_norm_rope_backward_workspace(int64_t rows, int64_t /*heads*/, int64_t head_dim, DType dtype) {
  return row_block_workspace(rows, head_dim, dtype);
}

}  // namespace polar::cpu

// Cross-entropy fused with the head's products and with its backward pass, in chunks of rows: one chunk of
// logits exists at a time and is overwritten by its own gradient.
#include "kernels/cross_entropy.h"

#include <algorithm>

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {
namespace {

// Logits of one chunk take at most this much memory. Each chunk reads and writes the whole F32 gradient of
// the head (V, C), against 6 R V C FLOPs for its R rows: at 7e14 FLOP/s and 3e12 B/s that adds about 300 / R.
// With V = 151,936 in BF16 it gives R = 3,456 rows, so 9 %, and fits every card that can train such a model.
constexpr int64_t kChunkBytes = int64_t{1} << 30;
constexpr int64_t kMostRows = 4096;    // from here on more rows gain nothing
constexpr int64_t kRowMultiple = 128;  // whole tiles of the products

int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Elements from one row of logits to the next: whole 16-byte pieces.
int64_t logits_stride(int64_t vocabulary, DType dtype) {
  const auto piece = static_cast<int64_t>(16 / size_of(dtype));
  return divide_up(vocabulary, piece) * piece;
}

// Rows of a chunk: the fewest chunks within the limits, all about equal.
int64_t chunk_rows(int64_t rows, int64_t vocabulary, DType dtype) {
  const int64_t row_bytes = logits_stride(vocabulary, dtype) * static_cast<int64_t>(size_of(dtype));
  const int64_t fitting = kChunkBytes / row_bytes / kRowMultiple * kRowMultiple;
  const int64_t chunks = divide_up(rows, std::clamp(fitting, kRowMultiple, kMostRows));
  if (chunks <= 1) return rows;
  return divide_up(divide_up(rows, chunks), kRowMultiple) * kRowMultiple;
}

// Targets stay on the device: the kernel gives a row with a wrong one the loss NaN.
void check(const CrossEntropy& args) {
  const int64_t rows = args.hidden.rows, cols = args.hidden.cols;
  const DType dtype = args.hidden.dtype;
  require(args.head.shape.rank() == 2 && args.head.shape[1] == cols && args.head.dtype == dtype,
          "cross_entropy: head (V, C)");
  require(is(args.targets, DType::i32, rows), "cross_entropy: targets i32 (N)");
  require(args.losses && is(args.losses, DType::f32, rows), "cross_entropy: losses F32 (N)");
  require(!args.lse || is(args.lse, DType::f32, rows), "cross_entropy: lse F32 (N)");
  require(args.softcap >= 0.0, "cross_entropy: softcap >= 0");
  if (args.dhidden.data == nullptr) return;
  require(same_shape(args.dhidden, args.hidden), "cross_entropy: dhidden (N, C)");
  require(args.dhead && args.dhead.dtype == DType::f32 && args.dhead.shape == args.head.shape,
          "cross_entropy: dhead F32 (V, C)");
}

template <class T>
kernels::CrossEntropyRows<T> rows_of(const CrossEntropy& args, const MatrixView& logits, int64_t first) {
  return {.rows = logits.rows,
          .vocabulary = logits.cols,
          .stride = logits.stride,
          .logits = static_cast<T*>(logits.data),
          .targets = args.targets.as<int32_t>() + first,
          .ignore_index = args.ignore_index,
          .z_loss = static_cast<float>(args.z_loss),
          .softcap = static_cast<float>(args.softcap),
          .gradient_scale = static_cast<float>(args.gradient_scale),
          .gradient = args.dhidden.data != nullptr,
          .losses = args.losses.as<float>() + first,
          .lse = args.lse ? args.lse.as<float>() + first : nullptr};
}

}  // namespace

void CudaOps::cross_entropy(const CrossEntropy& args) {
  check(args);
  const int64_t rows = args.hidden.rows, vocabulary = args.head.shape[0];
  const DType dtype = args.hidden.dtype;
  require(args.workspace.bytes() >= cross_entropy_workspace(rows, args.hidden.cols, vocabulary, dtype),
          "cross_entropy: cross_entropy_workspace(N, C, V) bytes of workspace");
  const int64_t chunk = chunk_rows(rows, vocabulary, dtype);
  for (int64_t first = 0; first < rows; first += chunk) {
    const int64_t count = std::min(chunk, rows - first);
    const MatrixView hidden = args.hidden.rows_from(first, count);
    const MatrixView logits(args.workspace.data, dtype, count, vocabulary, logits_stride(vocabulary, dtype));
    gemm(Transpose::no, Transpose::yes, 1.0, hidden, args.head, 0.0, logits);
    dispatch(dtype, "cross_entropy", [&]<class T>(T) {
      CUDA_CHECK(kernels::cross_entropy_rows(rows_of<T>(args, logits, first), stream_.get()));
    });
    if (args.dhidden.data == nullptr) continue;
    gemm(Transpose::no, Transpose::no, 1.0, logits, args.head, 0.0, args.dhidden.rows_from(first, count));
    gemm(Transpose::yes, Transpose::no, 1.0, logits, hidden, 1.0, args.dhead);
  }
}

size_t CudaOps::cross_entropy_workspace(int64_t rows, int64_t /*cols*/, int64_t vocabulary,
                                        DType dtype) const {
  return static_cast<size_t>(chunk_rows(rows, vocabulary, dtype) * logits_stride(vocabulary, dtype)) *
         size_of(dtype);
}

}  // namespace polar::cuda

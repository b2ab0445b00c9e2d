// Attention: contracts, then the launchers of kernels/attention.h or the engine chosen for the case.
#include "kernels/attention.h"

#include <algorithm>
#include <limits>

#include "backend/cuda/attention_choice.h"
#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {
namespace {

// A matrix whose rows can be read in 16-byte pieces.
void check_matrix(const MatrixView& x, DType dtype, int64_t rows, int64_t cols, const char* what) {
  require(x.data != nullptr && x.dtype == dtype && x.rows == rows && x.cols == cols && x.stride >= cols,
          what);
  const auto bytes = static_cast<size_t>(x.stride) * size_of(dtype);
  require(reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && bytes % 16 == 0,
          "attention: rows begin at multiples of 16 bytes");
  require(x.rows * x.stride <= std::numeric_limits<uint32_t>::max(), "attention: up to 2^32 elements");
}

void check_inputs(const AttentionShape& s, const MatrixView& q, const MatrixView& k, const MatrixView& v,
                  const Tensor& document_starts) {
  require(s.heads_kv > 0 && s.heads_q % s.heads_kv == 0, "attention: heads_q is a multiple of heads_kv");
  require(s.query_time > 0 && s.query_time <= s.key_time, "attention: 0 < query_time <= key_time");
  require(s.scale > 0.0, "attention: scale > 0");
  if (s.head_dim != 32 && s.head_dim != 64 && s.head_dim != 96 && s.head_dim != 128)
    fail("attention: the CUDA backend has kernels for head widths of 32, 64, 96 and 128, not {}", s.head_dim);
  check_matrix(q, q.dtype, s.batch * s.query_time, s.heads_q * s.head_dim, "attention: q (B*Tq, Hq*D)");
  check_matrix(k, q.dtype, s.batch * s.key_time, s.heads_kv * s.head_dim, "attention: k (B*Tk, Hkv*D)");
  check_matrix(v, q.dtype, s.batch * s.key_time, s.heads_kv * s.head_dim, "attention: v (B*Tk, Hkv*D)");
  require(!document_starts || is(document_starts, DType::i32, s.batch * s.query_time),
          "attention: document_starts i32 (B, query_time)");
}

kernels::AttentionSizes sizes_of(const AttentionShape& s) {
  const int64_t window = s.window < s.key_time ? s.window : 0;  // a window over everything is none
  return {.batch = static_cast<int>(s.batch),
          .query_time = static_cast<int>(s.query_time),
          .key_time = static_cast<int>(s.key_time),
          .heads_q = static_cast<int>(s.heads_q),
          .heads_kv = static_cast<int>(s.heads_kv),
          .head_dim = static_cast<int>(s.head_dim),
          .window = static_cast<int>(window),
          .scale = static_cast<float>(s.scale)};
}

template <class T>
kernels::AttentionRows<T> rows_of(const MatrixView& x) {
  return {static_cast<T*>(x.data), x.stride};
}

void launch(const AttentionForward& args, const Stream& stream) {
  const AttentionShape& s = args.shape;
  dispatch(args.q.dtype, "attention_forward", [&]<class T>(T) {
    const kernels::AttentionForwardArguments<T> call{.sizes = sizes_of(s),
                                                     .q = rows_of<const T>(args.q),
                                                     .k = rows_of<const T>(args.k),
                                                     .v = rows_of<const T>(args.v),
                                                     .document_starts = args.document_starts.as<int32_t>(),
                                                     .output = rows_of<T>(args.output),
                                                     .lse = args.lse.as<float>()};
    CUDA_CHECK(kernels::attention_forward(call, stream.get()));
  });
}

void launch(const AttentionBackward& args, const Stream& stream) {
  const AttentionShape& s = args.shape;
  dispatch(args.q.dtype, "attention_backward", [&]<class T>(T) {
    const kernels::AttentionBackwardArguments<T> call{.sizes = sizes_of(s),
                                                      .q = rows_of<const T>(args.q),
                                                      .k = rows_of<const T>(args.k),
                                                      .v = rows_of<const T>(args.v),
                                                      .document_starts = args.document_starts.as<int32_t>(),
                                                      .output = rows_of<const T>(args.output),
                                                      .doutput = rows_of<const T>(args.doutput),
                                                      .lse = args.lse.as<float>(),
                                                      .dq = rows_of<T>(args.dq),
                                                      .dk = rows_of<T>(args.dk),
                                                      .dv = rows_of<T>(args.dv),
                                                      .workspace = args.workspace.data};
    CUDA_CHECK(kernels::attention_backward(call, stream.get()));
  });
}

}  // namespace

void CudaOps::attention_forward(const AttentionForward& args) {
  const AttentionShape& s = args.shape;
  check_inputs(s, args.q, args.k, args.v, args.document_starts);
  check_matrix(args.output, args.q.dtype, s.batch * s.query_time, s.heads_q * s.head_dim,
               "attention: output (B*Tq, Hq*D)");
  require(!args.lse || is(args.lse, DType::f32, s.batch * s.heads_q * s.query_time),
          "attention: lse F32 (B, Hq, query_time)");
  const size_t workspace = args.workspace ? args.workspace.bytes() : 0;
  attention_->run(case_of(args), workspace, stream_,
                  {.native = [&] { launch(args, stream_); },
                   .other = [&] { attention_->other()->forward(args, stream_.get()); }});
}

void CudaOps::attention_backward(const AttentionBackward& args) {
  const AttentionShape& s = args.shape;
  check_inputs(s, args.q, args.k, args.v, args.document_starts);
  require(s.query_time == s.key_time, "attention_backward: query_time = key_time");
  const DType dtype = args.q.dtype;
  const int64_t rows = s.batch * s.query_time, q_cols = s.heads_q * s.head_dim;
  const int64_t kv_cols = s.heads_kv * s.head_dim;
  check_matrix(args.output, dtype, rows, q_cols, "attention_backward: output (B*T, Hq*D)");
  check_matrix(args.doutput, dtype, rows, q_cols, "attention_backward: doutput (B*T, Hq*D)");
  check_matrix(args.dq, dtype, rows, q_cols, "attention_backward: dq (B*T, Hq*D)");
  check_matrix(args.dk, dtype, rows, kv_cols, "attention_backward: dk (B*T, Hkv*D)");
  check_matrix(args.dv, dtype, rows, kv_cols, "attention_backward: dv (B*T, Hkv*D)");
  require(args.lse && is(args.lse, DType::f32, rows * s.heads_q), "attention_backward: lse F32 (B, Hq, T)");
  require(args.workspace && args.workspace.bytes() >= attention_workspace(s, dtype),
          "attention_backward: attention_workspace(shape) bytes of workspace");
  attention_->run(case_of(args), args.workspace.bytes(), stream_,
                  {.native = [&] { launch(args, stream_); },
                   .other = [&] { attention_->other()->backward(args, stream_.get()); }});
}

// Of our kernels only those of the backward pass need any. A plan that was made where there is no GPU holds
// where there is one: what cuDNN may need is bounded, not asked of it.
size_t CudaOps::attention_workspace(const AttentionShape& s, DType dtype) const {
  const size_t native = s.query_time == s.key_time ? kernels::attention_backward_workspace(sizes_of(s)) : 0;
  return plans_cudnn_ ? std::max(native, cudnn_attention_workspace(s, dtype)) : native;
}

}  // namespace polar::cuda

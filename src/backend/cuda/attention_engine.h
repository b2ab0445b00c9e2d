// What can compute attention beside the kernels of kernels/: an engine that does some of the cases. The one
// there is, cuDNN's, stands in attention_cudnn.cpp; tests have others.
#pragma once

#include <cuda_runtime_api.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "ops/ops.h"

namespace polar::cuda {

// Everything about one attention operation that a plan or a choice of the engine may depend on: what it
// computes and how its matrices lie, but not where.
struct AttentionCase {
  bool backward = false;
  DType dtype = DType::bf16;
  int64_t batch = 0, query_time = 0, key_time = 0, heads_q = 0, heads_kv = 0, head_dim = 0;
  int64_t window = 0;  // 0: none
  double scale = 0.0;
  bool documents = false, lse = false;
  int64_t q_stride = 0, k_stride = 0, v_stride = 0, output_stride = 0;  // elements between rows
  int64_t doutput_stride = 0, dq_stride = 0, dk_stride = 0, dv_stride = 0;

  auto operator<=>(const AttentionCase&) const = default;
  bool operator==(const AttentionCase&) const = default;
  // "attention forward, B16 T1024 Hq14 Hkv2 D64"
  std::string text() const;
};
AttentionCase case_of(const AttentionForward& args);
AttentionCase case_of(const AttentionBackward& args);

class AttentionEngine {
 public:
  virtual ~AttentionEngine() = default;
  virtual std::string name() const = 0;  // "cuDNN 9.19.0"
  // Why this engine cannot do the case with so many bytes of workspace; empty: it can. Plans the case when it
  // is first asked about it, which may load code onto the GPU: not while a graph is captured.
  virtual std::string refusal(const AttentionCase& c, size_t workspace_bytes) = 0;
  // For cases that are not refused; arguments as in ops.h. The same inputs give the same bits.
  virtual void forward(const AttentionForward& args, cudaStream_t stream) = 0;
  virtual void backward(const AttentionBackward& args, cudaStream_t stream) = 0;
};

// Bytes of workspace that the plan of a run sets aside so that cuDNN can do this case, known without cuDNN
// and without a GPU; 0 for a case that it does not do. Its deterministic backward pass keeps the gradient of
// the scores, (B, Hq, T, T). Where a graph needs more, or this would be more than kMostCudnnWorkspace, the
// case is the native engine's.
size_t cudnn_attention_workspace(const AttentionShape& shape, DType dtype);
constexpr size_t kMostCudnnWorkspace = size_t{4} << 30;

// cuDNN is found by tools/setup.sh --cudnn and CMake when the binary is built, and loaded when it runs.
bool cudnn_compiled_in();
// Loads cuDNN and makes its engine for the calling thread's current GPU. `problem` says why there is none
// (null then): not compiled in, no library found, a GPU that it does not support; and what to do.
std::unique_ptr<AttentionEngine> make_cudnn_attention(std::string& problem);

}  // namespace polar::cuda

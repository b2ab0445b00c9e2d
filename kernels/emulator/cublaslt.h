// The replacement of cuBLASLt: what its descriptors hold, in the opaque memory that the caller may also keep
// on its own stack. FP32 and BF16 inputs, the same or FP32 outputs, FP32 arithmetic.
#pragma once

#include <cublasLt.h>

#include <cstdint>

namespace polar::emulator {

struct LtLayout {
  cudaDataType_t type = CUDA_R_32F;
  cublasLtOrder_t order = CUBLASLT_ORDER_COL;
  uint64_t rows = 0, cols = 0;
  int64_t leading = 0;
  int64_t batch_stride = 0;
  int32_t batch_count = 1;
};

struct LtProduct {
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  cudaDataType_t scale_type = CUDA_R_32F;
  cublasLtPointerMode_t pointer_mode = CUBLASLT_POINTER_MODE_HOST;
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  int32_t bias_type = -1;  // that of the output
  int32_t multiprocessors = 0;
  const void* bias = nullptr;
  int64_t bias_batch_stride = 0;
};

struct LtPreference {
  uint64_t workspace_bytes = 0;
  uint32_t alignment_a = 256, alignment_b = 256, alignment_c = 256, alignment_d = 256;
};

// An algorithm is bound to the problem that it was proposed for: one that is kept under a wrong key is
// refused.
struct LtAlgorithm {
  uint32_t magic = 0, id = 0;
  uint64_t problem = 0;
  uint64_t workspace_bytes = 0;
  uint32_t alignment_a = 0, alignment_b = 0, alignment_c = 0, alignment_d = 0;
};

template <class State, class Opaque>
State& state_of(Opaque* opaque) {
  static_assert(sizeof(State) <= sizeof(Opaque));
  return *reinterpret_cast<State*>(opaque);
}
template <class State, class Opaque>
const State& state_of(const Opaque* opaque) {
  static_assert(sizeof(State) <= sizeof(Opaque));
  return *reinterpret_cast<const State*>(opaque);
}

// d = epilogue(alpha op(a) op(b) + beta c)
struct LtProblem {
  LtProduct product;
  LtLayout a, b, c, d;
};
// Whether the types and shapes go together; a note says what does not.
cublasStatus_t check_problem(const LtProblem& problem);
// The same for the same shapes, types and layouts.
uint64_t fingerprint(const LtProblem& problem);

}  // namespace polar::emulator

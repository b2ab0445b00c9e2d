// cuBLASLt: proposals of algorithms and the product itself, by OpenBLAS in FP32.
#include <cblas.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "cublaslt.h"
#include "report.h"
#include "runtime.h"

namespace polar::emulator {
namespace {

constexpr uint32_t kMagic = 0x706c6172;
constexpr uint32_t kAlgorithms = 3;
constexpr uint64_t kWorkspaceStep = uint64_t{1} << 20;  // algorithm i needs i times so much

size_t size_of(cudaDataType_t type) {
  return type == CUDA_R_16BF ? 2 : 4;
}

float read(const char* from, cudaDataType_t type) {
  if (type == CUDA_R_16BF) {
    uint16_t bits;
    std::memcpy(&bits, from, sizeof bits);
    return std::bit_cast<float>(uint32_t{bits} << 16);
  }
  float value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
void write(char* to, cudaDataType_t type, float value) {
  if (type != CUDA_R_16BF) {
    std::memcpy(to, &value, sizeof value);
    return;
  }
  const auto bits = std::bit_cast<uint32_t>(value);
  const bool is_nan = value != value;
  const auto rounded = static_cast<uint16_t>(is_nan ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  std::memcpy(to, &rounded, sizeof rounded);
}

// Byte offset of an element in its matrix of a batch.
size_t offset(const LtLayout& layout, uint64_t row, uint64_t col) {
  const auto leading = static_cast<uint64_t>(layout.leading);
  return size_of(layout.type) *
         (layout.order == CUBLASLT_ORDER_ROW ? row * leading + col : col * leading + row);
}
size_t batch_offset(const LtLayout& layout, int32_t batch) {
  return static_cast<size_t>(batch) * static_cast<size_t>(layout.batch_stride) * size_of(layout.type);
}

bool refused(bool condition, const char* why) {
  if (condition) note(fmt::format("cuBLASLt refuses the product: {}", why));
  return condition;
}

bool known_type(const LtLayout& layout) {
  return layout.type == CUDA_R_32F || layout.type == CUDA_R_16BF;
}
bool fits_leading(const LtLayout& layout) {
  const uint64_t least = layout.order == CUBLASLT_ORDER_ROW ? layout.cols : layout.rows;
  return layout.leading > 0 && static_cast<uint64_t>(layout.leading) >= least;
}

// op(x) as (rows, cols), column-major, in FP32.
std::vector<float> gather(const char* x, const LtLayout& layout, bool transposed) {
  const uint64_t rows = transposed ? layout.cols : layout.rows, cols = transposed ? layout.rows : layout.cols;
  std::vector<float> out(rows * cols);
  for (uint64_t col = 0; col < cols; ++col)
    for (uint64_t row = 0; row < rows; ++row)
      out[col * rows + row] =
          read(x + (transposed ? offset(layout, col, row) : offset(layout, row, col)), layout.type);
  return out;
}

struct Operands {
  const char *a, *b, *c;
  char* d;
};

void multiply(const LtProblem& problem, const Operands& at, float alpha, float beta, int32_t batch) {
  const LtProduct& product = problem.product;
  const bool transpose_a = product.transpose_a != CUBLAS_OP_N,
             transpose_b = product.transpose_b != CUBLAS_OP_N;
  const std::vector<float> a = gather(at.a + batch_offset(problem.a, batch), problem.a, transpose_a);
  const std::vector<float> b = gather(at.b + batch_offset(problem.b, batch), problem.b, transpose_b);
  const char* c = at.c + batch_offset(problem.c, batch);
  char* d = at.d + batch_offset(problem.d, batch);
  const uint64_t m = problem.d.rows, n = problem.d.cols, k = transpose_a ? problem.a.rows : problem.a.cols;
  std::vector<float> out(m * n, 0.0f);
  if (beta != 0.0f) out = gather(c, problem.c, false);  // else what is there, NaN even, does not count
  const auto rows = static_cast<blasint>(m), cols = static_cast<blasint>(n), depth = static_cast<blasint>(k);
  cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, rows, cols, depth, alpha, a.data(), rows, b.data(),
              depth, beta, out.data(), rows);
  const bool has_bias = (product.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0;
  const auto bias_type =
      product.bias_type < 0 ? problem.d.type : static_cast<cudaDataType_t>(product.bias_type);
  const auto* bias =
      static_cast<const char*>(product.bias) +
      static_cast<size_t>(batch) * static_cast<size_t>(product.bias_batch_stride) * size_of(bias_type);
  for (uint64_t col = 0; col < n; ++col)
    for (uint64_t row = 0; row < m; ++row) {
      float value = out[col * m + row];
      if (has_bias) value += read(bias + row * size_of(bias_type), bias_type);
      if ((product.epilogue & CUBLASLT_EPILOGUE_RELU) != 0) value = std::max(value, 0.0f);
      write(d + offset(problem.d, row, col), problem.d.type, value);
    }
}

void check_operand(const char* which, const void* pointer, const LtLayout& layout) {
  const size_t last =
      batch_offset(layout, layout.batch_count - 1) + offset(layout, layout.rows - 1, layout.cols - 1);
  check_device_range("cublasLtMatmul", which, pointer, last + size_of(layout.type));
}

bool aligned(const void* pointer, uint32_t alignment) {
  return reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
}

cublasStatus_t check_algorithm(const LtAlgorithm& algorithm, const LtProblem& problem) {
  if (refused(algorithm.magic != kMagic, "the algorithm is none of this library"))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (refused(algorithm.problem != fingerprint(problem), "the algorithm was proposed for another problem"))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t check_memory(const LtAlgorithm& algorithm, const LtProblem& problem, const Operands& at,
                            const void* workspace, size_t workspace_bytes) {
  if (refused(workspace_bytes < algorithm.workspace_bytes, "the workspace is too small"))
    return CUBLAS_STATUS_INVALID_VALUE;
  const bool kept = aligned(at.a, algorithm.alignment_a) && aligned(at.b, algorithm.alignment_b) &&
                    aligned(at.c, algorithm.alignment_c) && aligned(at.d, algorithm.alignment_d);
  if (refused(!kept, "a matrix is less aligned than the preference said when the algorithm was proposed"))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  check_operand("matrix a", at.a, problem.a);
  check_operand("matrix b", at.b, problem.b);
  if (at.c != at.d) check_operand("matrix c", at.c, problem.c);
  check_operand("matrix d", at.d, problem.d);
  if (algorithm.workspace_bytes > 0)
    check_device_range("cublasLtMatmul", "workspace", workspace, algorithm.workspace_bytes);
  return CUBLAS_STATUS_SUCCESS;
}

LtAlgorithm propose(const LtProblem& problem, const LtPreference& preference, uint32_t id) {
  return {kMagic,
          id,
          fingerprint(problem),
          id * kWorkspaceStep,
          preference.alignment_a,
          preference.alignment_b,
          preference.alignment_c,
          preference.alignment_d};
}

}  // namespace

cublasStatus_t check_problem(const LtProblem& problem) {
  const LtProduct& product = problem.product;
  const bool transpose_a = product.transpose_a != CUBLAS_OP_N,
             transpose_b = product.transpose_b != CUBLAS_OP_N;
  const LtLayout &a = problem.a, &b = problem.b, &c = problem.c, &d = problem.d;
  const uint64_t m = transpose_a ? a.cols : a.rows, k = transpose_a ? a.rows : a.cols;
  const uint64_t b_rows = transpose_b ? b.cols : b.rows, n = transpose_b ? b.rows : b.cols;
  if (refused(m == 0 || n == 0 || k == 0, "a matrix is empty") ||
      refused(b_rows != k || d.rows != m || d.cols != n || c.rows != m || c.cols != n,
              "the shapes do not match") ||
      refused(!fits_leading(a) || !fits_leading(b) || !fits_leading(c) || !fits_leading(d),
              "a leading dimension is too small") ||
      refused(
          a.batch_count != d.batch_count || b.batch_count != d.batch_count || c.batch_count != d.batch_count,
          "the batch counts differ"))
    return CUBLAS_STATUS_INVALID_VALUE;
  const bool fp32 = product.compute == CUBLAS_COMPUTE_32F || product.compute == CUBLAS_COMPUTE_32F_PEDANTIC ||
                    product.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  const bool types = known_type(a) && a.type == b.type && known_type(d) && c.type == d.type &&
                     (d.type == CUDA_R_32F || a.type == CUDA_R_16BF);
  const bool orders = a.order <= CUBLASLT_ORDER_ROW && b.order <= CUBLASLT_ORDER_ROW &&
                      c.order <= CUBLASLT_ORDER_ROW && d.order <= CUBLASLT_ORDER_ROW;
  const uint32_t known_epilogues =
      CUBLASLT_EPILOGUE_DEFAULT | CUBLASLT_EPILOGUE_BIAS | CUBLASLT_EPILOGUE_RELU;
  if (refused(!fp32 || product.scale_type != CUDA_R_32F, "it is not computed in FP32") ||
      refused(!types, "types other than FP32 and BF16 inputs with the same or an FP32 output") ||
      refused(!orders, "an order other than rows or columns") ||
      refused(product.pointer_mode > CUBLASLT_POINTER_MODE_DEVICE, "vectors of alpha") ||
      refused((product.epilogue & ~known_epilogues) != 0, "an epilogue other than bias and ReLU"))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

uint64_t fingerprint(const LtProblem& problem) {
  const LtProduct& p = problem.product;
  uint64_t hash = 0xCBF29CE484222325ull;
  const auto add = [&hash](uint64_t value) { hash = (hash ^ value) * 0x100000001B3ull; };
  for (const uint64_t value : {static_cast<uint64_t>(p.compute), static_cast<uint64_t>(p.transpose_a),
                               static_cast<uint64_t>(p.transpose_b), static_cast<uint64_t>(p.epilogue),
                               static_cast<uint64_t>(p.pointer_mode)})
    add(value);
  for (const LtLayout* layout : {&problem.a, &problem.b, &problem.c, &problem.d}) {
    add(static_cast<uint64_t>(layout->type));
    add(static_cast<uint64_t>(layout->order));
    add(layout->rows);
    add(layout->cols);
    add(static_cast<uint64_t>(layout->leading));
    add(static_cast<uint64_t>(layout->batch_count));
    add(static_cast<uint64_t>(layout->batch_stride));
  }
  return hash;
}

}  // namespace polar::emulator

using namespace polar::emulator;  // NOLINT: what follows are the C functions of cuBLASLt

static LtProblem problem_of(cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                            cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d) {
  return {state_of<LtProduct>(product), state_of<LtLayout>(a), state_of<LtLayout>(b), state_of<LtLayout>(c),
          state_of<LtLayout>(d)};
}

extern "C" {

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  if (wanted <= 0) return CUBLAS_STATUS_INVALID_VALUE;
  const LtProblem problem = problem_of(product, a, b, c, d);
  *found = 0;
  if (const cublasStatus_t status = check_problem(problem); status != CUBLAS_STATUS_SUCCESS) return status;
  const LtPreference& wishes = state_of<LtPreference>(preference);
  for (uint32_t id = 0; id < kAlgorithms && *found < wanted; ++id) {
    const LtAlgorithm proposed = propose(problem, wishes, id);
    if (proposed.workspace_bytes > wishes.workspace_bytes) continue;
    cublasLtMatmulHeuristicResult_t& result = results[(*found)++];
    std::memset(&result, 0, sizeof result);
    std::memcpy(&result.algo, &proposed, sizeof proposed);
    result.workspaceSize = proposed.workspace_bytes;
    result.state = CUBLAS_STATUS_SUCCESS;
    result.wavesCount = 1.0f;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t product,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algorithm,
                                       cublasLtMatmulHeuristicResult_t* result) {
  const LtProblem problem = problem_of(product, a, b, c, d);
  cublasStatus_t status = check_problem(problem);
  if (status == CUBLAS_STATUS_SUCCESS) status = check_algorithm(state_of<LtAlgorithm>(algorithm), problem);
  std::memset(result, 0, sizeof *result);
  result->algo = *algorithm;
  result->state = status;
  result->workspaceSize = state_of<LtAlgorithm>(algorithm).workspace_bytes;
  return status;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  const LtProblem problem = problem_of(product, a_layout, b_layout, c_layout, d_layout);
  const Operands at{static_cast<const char*>(a), static_cast<const char*>(b), static_cast<const char*>(c),
                    static_cast<char*>(d)};
  LtPreference least;
  least.alignment_a = least.alignment_b = static_cast<uint32_t>(size_of(problem.a.type));
  least.alignment_c = least.alignment_d = static_cast<uint32_t>(size_of(problem.d.type));
  const LtAlgorithm chosen =
      algorithm == nullptr ? propose(problem, least, 0) : state_of<LtAlgorithm>(algorithm);
  cublasStatus_t status = check_problem(problem);
  if (status == CUBLAS_STATUS_SUCCESS) status = check_algorithm(chosen, problem);
  if (status == CUBLAS_STATUS_SUCCESS) status = check_memory(chosen, problem, at, workspace, workspace_bytes);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const bool on_host = problem.product.pointer_mode == CUBLASLT_POINTER_MODE_HOST;
  if (!on_host) {
    check_device_range("cublasLtMatmul", "alpha", alpha, sizeof(float));
    check_device_range("cublasLtMatmul", "beta", beta, sizeof(float));
  }
  const auto scalar = [](const void* from) { return read(static_cast<const char*>(from), CUDA_R_32F); };
  const std::array<float, 2> now = on_host ? std::array{scalar(alpha), scalar(beta)} : std::array{0.0f, 0.0f};
  const auto work = [=] {
    // An algorithm may write all of the workspace it asked for.
    if (chosen.workspace_bytes > 0) std::memset(workspace, 0xff, chosen.workspace_bytes);
    const float scale = on_host ? now[0] : scalar(alpha), keep = on_host ? now[1] : scalar(beta);
    for (int32_t batch = 0; batch < problem.d.batch_count; ++batch) multiply(problem, at, scale, keep, batch);
  };
  return enqueue(stream, work) == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // extern "C"

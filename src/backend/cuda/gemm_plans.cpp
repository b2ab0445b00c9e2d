#include "backend/cuda/gemm_plans.h"

#include <array>
#include <cstring>
#include <limits>
#include <span>

#include "base/error.h"

namespace polar::cuda {
namespace {

constexpr int kCandidates = 8;
constexpr int kTimedRuns = 5;

const char* hint(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_NOT_INITIALIZED:
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "the GPU's memory may be full: use a smaller batch.micro_sequences";
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return "the GPU is older than this library supports";
    case CUBLAS_STATUS_EXECUTION_FAILED:
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "a kernel queued earlier may have failed: CUDA_LAUNCH_BLOCKING=1 or compute-sanitizer names it";
    default:
      return "a product that cuBLASLt does not do (a defect): CUBLASLT_LOG_LEVEL=2 says why";
  }
}

template <auto destroy>
struct Destroy {
  template <class Handle>
  void operator()(Handle* handle) const noexcept {
    destroy(handle);
  }
};
using Layout = std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy<&cublasLtMatrixLayoutDestroy>>;
using Product = std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy<&cublasLtMatmulDescDestroy>>;
using Preference =
    std::unique_ptr<cublasLtMatmulPreferenceOpaque_t, Destroy<&cublasLtMatmulPreferenceDestroy>>;

cudaDataType_t type_of(DType dtype) {
  return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

// A row-major matrix is a column-major one with rows and columns swapped.
Layout make_layout(DType dtype, int64_t rows, int64_t cols, int64_t stride) {
  cublasLtMatrixLayout_t layout = nullptr;
  CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&layout, type_of(dtype), static_cast<uint64_t>(cols),
                                          static_cast<uint64_t>(rows), stride));
  return Layout(layout);
}

Product make_product(bool transpose_first, bool transpose_second, bool bias) {
  cublasLtMatmulDesc_t product = nullptr;
  CUBLAS_CHECK(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  Product owned(product);
  const cublasOperation_t first = transpose_first ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t second = transpose_second ? CUBLAS_OP_T : CUBLAS_OP_N;
  CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
  CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
  if (bias) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;  // of c's dtype, one a column of c
    CUBLAS_CHECK(
        cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
  }
  return owned;
}

// Partial sums of a split depth are added in F32 in the workspace, not in a BF16 output.
Preference make_preference(const GemmProblem& problem) {
  cublasLtMatmulPreference_t preference = nullptr;
  CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
  Preference owned(preference);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value));
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{GemmPlans::kWorkspaceBytes});
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(problem.b_alignment));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(problem.a_alignment));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(problem.c_alignment));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(problem.c_alignment));
  return owned;
}

void set_bias(cublasLtMatmulDesc_t product, const void* bias) {
  CUBLAS_CHECK(
      cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
}

bool is_capturing(const Stream& stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  CUDA_CHECK(cudaStreamIsCapturing(stream.get(), &status));
  return status != cudaStreamCaptureStatusNone;
}

std::string owner_of_choices(const std::string& gpu) {
  return fmt::format("cuBLASLt {}, {}", cublasLtGetVersion(), gpu);
}

// Device memory where it is to be had; null where it is not. For measuring alone.
DeviceMemory try_device_memory(size_t bytes) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes) != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  return DeviceMemory(static_cast<std::byte*>(memory));
}

}  // namespace

void check(cublasStatus_t status, const char* call, const char* file, int line) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail("cuBLASLt: {} at {}:{} gave {} ({}); {}", call_text(call), file_name(file), line,
       cublasLtGetStatusName(status), cublasLtGetStatusString(status), hint(status));
}

// In cuBLASLt's column-major eyes the product is c^T = op(b)^T op(a)^T: b comes first.
struct GemmPlans::Plan {
  Product product;
  Layout first, second, output;
  Preference preference;
  cublasLtMatmulAlgo_t algorithm{};

  explicit Plan(const GemmProblem& p)
      : product(make_product(p.transpose_b, p.transpose_a, p.bias)),
        first(p.transpose_b ? make_layout(p.inputs, p.cols, p.depth, p.b_stride)
                            : make_layout(p.inputs, p.depth, p.cols, p.b_stride)),
        second(p.transpose_a ? make_layout(p.inputs, p.depth, p.rows, p.a_stride)
                             : make_layout(p.inputs, p.rows, p.depth, p.a_stride)),
        output(make_layout(p.output, p.rows, p.cols, p.c_stride)),
        preference(make_preference(p)) {}
};

GemmPlans::GemmPlans(std::string cache_file, const std::string& gpu)
    : cache_(std::move(cache_file), owner_of_choices(gpu)) {
  cublasLtHandle_t handle = nullptr;
  CUBLAS_CHECK(cublasLtCreate(&handle));
  handle_.reset(handle);
}

GemmPlans::~GemmPlans() = default;

void GemmPlans::run(const GemmProblem& problem, const Operands& operands, const Stream& stream) {
  const Plan& chosen = plan(problem, operands, stream);
  if (problem.bias) set_bias(chosen.product.get(), operands.bias);
  check(multiply(chosen, chosen.algorithm, operands, operands.c, stream), "cublasLtMatmul", __FILE__,
        __LINE__);
}

GemmPlans::Plan& GemmPlans::plan(const GemmProblem& problem, const Operands& operands, const Stream& stream) {
  std::unique_ptr<Plan>& place = plans_[problem];
  if (place == nullptr) {
    auto made = std::make_unique<Plan>(problem);
    if (problem.bias) set_bias(made->product.get(), operands.bias);
    if (!from_cache(problem, *made)) choose(problem, operands, stream, *made);
    place = std::move(made);
  }
  return *place;
}

bool GemmPlans::from_cache(const GemmProblem& problem, Plan& plan) const {
  const GemmAlgorithm* words = cache_.find(problem);
  if (words == nullptr) return false;
  static_assert(sizeof(plan.algorithm) == sizeof(*words));
  std::memcpy(&plan.algorithm, words->data(), sizeof plan.algorithm);
  cublasLtMatmulHeuristicResult_t result{};
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(handle_.get(), plan.product.get(), plan.first.get(), plan.second.get(),
                              plan.output.get(), plan.output.get(), &plan.algorithm, &result);
  return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= kWorkspaceBytes;
}

cublasStatus_t GemmPlans::multiply(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm,
                                   const Operands& operands, void* d, const Stream& stream) const {
  const auto alpha = static_cast<float>(operands.alpha), beta = static_cast<float>(operands.beta);
  return cublasLtMatmul(handle_.get(), plan.product.get(), &alpha, operands.b, plan.first.get(), operands.a,
                        plan.second.get(), &beta, operands.c, plan.output.get(), d, plan.output.get(),
                        &algorithm, operands.workspace, kWorkspaceBytes, stream.get());
}

// Takes the library's first proposal; with a cache file, and outside of a graph's capture, the fastest of
// them.
void GemmPlans::choose(const GemmProblem& problem, const Operands& operands, const Stream& stream,
                       Plan& plan) {
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results{};
  int found = 0;
  CUBLAS_CHECK(cublasLtMatmulAlgoGetHeuristic(
      handle_.get(), plan.product.get(), plan.first.get(), plan.second.get(), plan.output.get(),
      plan.output.get(), plan.preference.get(), cache_.keeps() ? kCandidates : 1, results.data(), &found));
  const std::span candidates(results.data(), static_cast<size_t>(found));
  if (candidates.empty())
    fail("cuBLASLt has no algorithm for a product of {} x {} x {}", problem.rows, problem.cols,
         problem.depth);
  plan.algorithm = candidates[0].algo;
  if (!cache_.keeps() || is_capturing(stream)) return;

  // Measured into memory of its own where c counts: it must not be added to several times.
  const auto bytes = static_cast<size_t>(problem.rows * problem.c_stride) * size_of(problem.output);
  const DeviceMemory separate = operands.beta == 0.0 ? nullptr : try_device_memory(bytes);
  if (operands.beta != 0.0 && separate == nullptr) return;
  void* d = operands.beta == 0.0 ? operands.c : separate.get();
  ++measured_;
  float best = std::numeric_limits<float>::infinity();
  for (const cublasLtMatmulHeuristicResult_t& candidate : candidates) {
    const float milliseconds = measure(plan, candidate.algo, operands, d, stream);
    if (milliseconds >= best) continue;
    best = milliseconds;
    plan.algorithm = candidate.algo;
  }
  GemmAlgorithm words;
  std::memcpy(words.data(), &plan.algorithm, sizeof plan.algorithm);
  cache_.insert(problem, words);
}

// Milliseconds of some runs; infinite for an algorithm that refuses.
float GemmPlans::measure(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm, const Operands& operands,
                         void* d, const Stream& stream) const {
  if (multiply(plan, algorithm, operands, d, stream) != CUBLAS_STATUS_SUCCESS)
    return std::numeric_limits<float>::infinity();
  const Event begin(EventKind::timing), end(EventKind::timing);
  begin.record(stream);
  for (int i = 0; i < kTimedRuns; ++i)
    check(multiply(plan, algorithm, operands, d, stream), "cublasLtMatmul", __FILE__, __LINE__);
  end.record(stream);
  end.synchronize();
  return end.milliseconds_since(begin);
}

}  // namespace polar::cuda

// Matrix products through cuBLASLt. A plan (descriptors and algorithm) is made when a product of its kind is
// first asked for, and kept. Without a cache file the algorithm is the library's first proposal, which is the
// same in every process; with one, the proposals are measured once and the fastest is kept there.
#pragma once

#include <cublasLt.h>

#include <map>
#include <memory>
#include <string>

#include "backend/cuda/gemm_cache.h"
#include "backend/cuda/gemm_problem.h"
#include "backend/cuda/runtime.h"

namespace polar::cuda {

// Throws an Error unless `status` is CUBLAS_STATUS_SUCCESS, as CUDA_CHECK does.
#define CUBLAS_CHECK(...) ::polar::cuda::check((__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)
void check(cublasStatus_t status, const char* call, const char* file, int line);

class GemmPlans {
 public:
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA recommends for Hopper

  // `gpu` names the GPU that the choices in the file are good for.
  GemmPlans(std::string cache_file, const std::string& gpu);
  ~GemmPlans();
  GemmPlans(const GemmPlans&) = delete;
  GemmPlans& operator=(const GemmPlans&) = delete;

  struct Operands {
    double alpha;
    const void *a, *b;
    double beta;
    void* c;
    const void* bias;  // with GemmProblem::bias
    void* workspace;   // kWorkspaceBytes
  };
  void run(const GemmProblem& problem, const Operands& operands, const Stream& stream);
  // How often candidates were measured so far: for tests and benchmarks.
  int64_t measured() const { return measured_; }

 private:
  struct Plan;
  Plan& plan(const GemmProblem& problem, const Operands& operands, const Stream& stream);
  void choose(const GemmProblem& problem, const Operands& operands, const Stream& stream, Plan& plan);
  bool from_cache(const GemmProblem& problem, Plan& plan) const;
  float measure(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm, const Operands& operands, void* d,
                const Stream& stream) const;
  cublasStatus_t multiply(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm, const Operands& operands,
                          void* d, const Stream& stream) const;

  struct DestroyHandle {
    void operator()(cublasLtHandle_t handle) const noexcept { cublasLtDestroy(handle); }
  };
  std::unique_ptr<std::remove_pointer_t<cublasLtHandle_t>, DestroyHandle> handle_;
  GemmCache cache_;
  std::map<GemmProblem, std::unique_ptr<Plan>> plans_;
  int64_t measured_ = 0;
};

}  // namespace polar::cuda

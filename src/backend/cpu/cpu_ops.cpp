#include "backend/cpu/cpu_ops.h"

#include <cblas.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif
#include <omp.h>

#include <cstdlib>
#include <cstring>

#include "backend/cpu/gemm_product.h"
#include "backend/cpu/gemm_split.h"
#include "base/error.h"
#include "tensor/memory_plan.h"

namespace polar::cpu {
namespace {

// What this binary was compiled for.
#if defined(__AVX512F__)
constexpr const char* kVectorUnit = "AVX-512";
#elif defined(__AVX2__)
constexpr const char* kVectorUnit = "AVX2";
#else
constexpr const char* kVectorUnit = "128-bit vectors";
#endif

// Denormal numbers cost up to thirty times a normal operation, and Adam's moments of weights without
// gradients end there for good. Every thread of the pool keeps its own setting.
void flush_denormals() {
#ifdef __SSE2__
  _mm_setcsr(_mm_getcsr() | 0x8040);  // FTZ and DAZ
#endif
}

}  // namespace

CpuOps::CpuOps(int threads) : threads_(threads > 0 ? threads : omp_get_max_threads()) {
  omp_set_num_threads(threads_);
  openblas_set_num_threads(1);  // LAPACK's products: matrices are the tasks, two pools would fight for cores
#pragma omp parallel
  {
    flush_denormals();
    reserve_packing_buffers();
  }
}

std::string CpuOps::device_name() const {
  return fmt::format("cpu: {} thread{}, {}{}", threads_, threads_ == 1 ? "" : "s", kVectorUnit,
                     has_matrix_units() ? " and AMX" : "");
}

void* CpuOps::allocate(size_t bytes) {
  const size_t rounded =
      (bytes + MemoryPlan::kAlignment - 1) / MemoryPlan::kAlignment * MemoryPlan::kAlignment;
  void* memory = std::aligned_alloc(MemoryPlan::kAlignment, rounded == 0 ? MemoryPlan::kAlignment : rounded);
  if (memory == nullptr)
    fail(
        "cannot allocate {} of memory: use a smaller batch.micro_sequences or train.recompute: layer; "
        "`polartrain plan CONFIG` shows what needs how much",
        format_bytes(bytes));
  return memory;
}

void CpuOps::release(void* memory) noexcept {
  std::free(memory);
}

void CpuOps::upload(const Tensor& to, const void* from) {
  if (to.bytes() > 0) std::memcpy(to.data, from, to.bytes());  // nothing may be at null
}

void CpuOps::download(void* to, const Tensor& from) {
  if (from.bytes() > 0) std::memcpy(to, from.data, from.bytes());
}

}  // namespace polar::cpu

// Every kernel of the tests that also run by translations, for nvcc.
#include "authoring_kernels.cuh"
#include "block_kernels.cuh"
#include "hopper_kernels.cuh"
#include "matrix_kernels.cuh"
#include "translated_kernels.cuh"
#include "warp_kernels.cuh"

namespace polar::kernels {

template __global__ void sum_and_maximum<32, float>(const float*, float*, int);
template __global__ void sum_and_maximum<128, float>(const float*, float*, int);
template __global__ void sum_and_maximum<256, bf16>(const bf16*, float*, int);
template __global__ void sum_and_maximum<1024, bf16>(const bf16*, float*, int);
template __global__ void negate<float>(const float*, float*, int);
template __global__ void negate<bf16>(const bf16*, bf16*, int);

template __global__ void ldmatrix_kernel<false, 2>(uint32_t*);
template __global__ void ldmatrix_kernel<true, 2>(uint32_t*);
template __global__ void ldmatrix_kernel<false, 4>(uint32_t*);
template __global__ void ldmatrix_kernel<true, 4>(uint32_t*);

#define PRODUCT_KERNEL(columns, ...)                             \
  template __global__ void product_kernel<columns, __VA_ARGS__>( \
      const __grid_constant__ CUtensorMap, const __grid_constant__ CUtensorMap, const bf16*, float*)
PRODUCT_KERNEL(64, Major::k, false);
PRODUCT_KERNEL(64, Major::k, true);
PRODUCT_KERNEL(64, Major::mn, false);
PRODUCT_KERNEL(64, Major::mn, true);
PRODUCT_KERNEL(128, Major::k, false);
PRODUCT_KERNEL(128, Major::k, true);
PRODUCT_KERNEL(128, Major::mn, false);
PRODUCT_KERNEL(128, Major::mn, true);
PRODUCT_KERNEL(64, Major::k, false, Major::mn);
PRODUCT_KERNEL(64, Major::mn, false, Major::mn);
PRODUCT_KERNEL(128, Major::k, false, Major::mn);
PRODUCT_KERNEL(128, Major::mn, false, Major::mn);

template __global__ void faulty_kernel<Fault::none>(const __grid_constant__ CUtensorMap, float*);
template __global__ void faulty_kernel<Fault::wait_for_tile>(const __grid_constant__ CUtensorMap, float*);
template __global__ void faulty_kernel<Fault::wait_for_product>(const __grid_constant__ CUtensorMap, float*);
template __global__ void faulty_kernel<Fault::fence>(const __grid_constant__ CUtensorMap, float*);
template __global__ void faulty_kernel<Fault::never_waits>(const __grid_constant__ CUtensorMap, float*);

}  // namespace polar::kernels

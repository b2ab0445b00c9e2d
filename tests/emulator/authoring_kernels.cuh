// Kernels of authoring_test.cpp, also run as nvcc compiles them.
#pragma once

#include "kernels/reduce.cuh"
#include "kernels/vector.cuh"

namespace polar::kernels {

// out[row] = sum and maximum of a row of x (rows, cols), cols a multiple of the vector.
template <int threads, class T>
__global__ void __launch_bounds__(threads) sum_and_maximum(const T* x, float* out, int cols) {
  DEVICE_SHARED(float, scratch, [threads / kWarpSize]);
  const T* row = x + static_cast<int64_t>(blockIdx.x) * cols;
  float sum = 0.0f, largest = -1e30f;
  for (int i = static_cast<int>(threadIdx.x) * Vector<T>::kCount; i < cols;
       i += threads * Vector<T>::kCount) {
    const Vector<T> vector = load_vector(row + i);
    for (float value : vector.value) {
      sum += value;
      largest = max(largest, value);
    }
  }
  sum = block_sum<threads>(sum, scratch);
  largest = block_max<threads>(largest, scratch);
  if (threadIdx.x == 0) {
    out[2 * blockIdx.x] = sum;
    out[2 * blockIdx.x + 1] = largest;
  }
}

template <class T>
__global__ void negate(const T* x, T* y, int vectors) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= vectors) return;
  Vector<T> vector = load_vector(x + i * Vector<T>::kCount);
  for (float& value : vector.value) value = -value;
  store_vector(y + i * Vector<T>::kCount, vector);
}

}  // namespace polar::kernels

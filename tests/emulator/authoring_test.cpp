// The helpers that every kernel is written with, on the emulator: block reductions and 16-byte vectors.
#include <gtest/gtest.h>

#include <vector>

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

namespace {

template <class T>
T* to_device(const std::vector<T>& values) {
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, values.size() * sizeof(T)), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
            cudaSuccess);
  return static_cast<T*>(memory);
}
template <class T>
std::vector<T> from_device(const T* memory, size_t count) {
  std::vector<T> values(count);
  EXPECT_EQ(cudaMemcpy(values.data(), memory, count * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
  return values;
}

template <int threads, class T>
void check_rows(int rows, int cols) {
  std::vector<T> values;
  for (int i = 0; i < rows * cols; ++i)
    values.push_back(from_float<T>(static_cast<float>((i * 7) % 33 - 16)));
  T* x = to_device(values);
  auto* out = to_device(std::vector<float>(static_cast<size_t>(2 * rows)));
  ASSERT_EQ(device_launch(LaunchConfig(static_cast<unsigned>(rows), threads), &sum_and_maximum<threads, T>, x,
                          out, cols),
            cudaSuccess);
  const std::vector<float> results = from_device(out, static_cast<size_t>(2 * rows));
  for (int row = 0; row < rows; ++row) {
    float sum = 0.0f, largest = -1e30f;
    for (int i = 0; i < cols; ++i) {
      const float value = to_float(values[static_cast<size_t>(row * cols + i)]);
      sum += value;  // small integers: exact in any order
      largest = std::max(largest, value);
    }
    EXPECT_EQ(results[static_cast<size_t>(2 * row)], sum);
    EXPECT_EQ(results[static_cast<size_t>(2 * row + 1)], largest);
  }
  cudaFree(x);
  cudaFree(out);
}

TEST(Authoring, BlockReductions) {
  check_rows<32, float>(3, 100);
  check_rows<128, float>(3, 1000);
  check_rows<256, bf16>(3, 800);
  check_rows<1024, bf16>(2, 16);
}

template <class T>
void check_vectors() {
  std::vector<T> values;
  for (int i = 0; i < 80; ++i) values.push_back(from_float<T>(static_cast<float>(i) / 8.0f));
  T *x = to_device(values), *y = to_device(values);
  ASSERT_EQ(device_launch(LaunchConfig(2, 32), &negate<T>, x, y, 80 / Vector<T>::kCount), cudaSuccess);
  const std::vector<T> negated = from_device(y, values.size());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(to_float(negated[i]), -to_float(values[i]));
  cudaFree(x);
  cudaFree(y);
}

TEST(Authoring, Vectors) {
  check_vectors<float>();
  check_vectors<bf16>();
  EXPECT_EQ(pack_bf16(1.0f, -2.0f), 0xc0003f80u);
  const std::vector<float> memory(16);
  EXPECT_EQ(aligned_for_vectors(memory.data(), 6), false);
}

}  // namespace
}  // namespace polar::kernels

// Scaling by rows and columns of a batch of matrices (contiguous, float or bf16): NorMuon's neurons, AOL's
// preconditioner, and the sign. Sums in float, each by one block in an order that sizes alone decide.
//
// Floor: neurons read x twice (the second time from a cache) and write it; precondition reads and writes a
// and x; sign reads and writes x. `=`, in place.
#include "pieces.cuh"
#include "polar.h"
#include "reduce.cuh"

namespace polar::kernels {

constexpr int kScaleThreads = 256;
constexpr int kNeuronColumns = 32, kNeuronRows = kScaleThreads / kNeuronColumns;
constexpr double kSmallestSquare = 1e-10;

// The state of a neuron whose mean square is `mean`, brought up to date, and the factor that it gives.
__device__ __forceinline__ float neuron_factor(float* state, float mean, double beta, bool apply) {
  float square = *state;
  if (apply) {
    square = static_cast<float>(beta * square + (1.0 - beta) * mean);
    *state = square;
  }
  return static_cast<float>(1.0 / sqrt(max(static_cast<double>(square), kSmallestSquare)));
}

// A block a row.
template <class T>
__global__ void __launch_bounds__(kScaleThreads)
    neuron_rows_kernel(T* x, float* squares, int64_t m, int64_t n, double beta, const double* apply) {
  DEVICE_SHARED(float, scratch, [kScaleThreads / kWarpSize]);
  DEVICE_SHARED(float, factor);
  const int64_t neuron = blockIdx.y * m + blockIdx.x;
  T* row = x + neuron * n;
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < n; i += kScaleThreads) {
    const float value = to_float(row[i]);
    sum += value * value;
  }
  sum = block_sum<kScaleThreads>(sum, scratch);
  if (threadIdx.x == 0)
    factor = neuron_factor(squares + neuron, sum / static_cast<float>(n), beta, *apply != 0.0);
  __syncthreads();
  for (int64_t i = threadIdx.x; i < n; i += kScaleThreads) row[i] = from_float<T>(to_float(row[i]) * factor);
}

// A block 32 columns; thread (c, r) adds the rows r, r + 8, ... of a column.
template <class T>
__global__ void __launch_bounds__(kScaleThreads)
    neuron_columns_kernel(T* x, float* squares, int64_t m, int64_t n, double beta, const double* apply) {
  DEVICE_SHARED(float, sums, [kNeuronRows][kNeuronColumns]);
  DEVICE_SHARED(float, factors, [kNeuronColumns]);
  const int c = static_cast<int>(threadIdx.x) % kNeuronColumns,
            r = static_cast<int>(threadIdx.x) / kNeuronColumns;
  const int64_t col = static_cast<int64_t>(blockIdx.x) * kNeuronColumns + c;
  T* matrix = x + blockIdx.y * m * n;
  float sum = 0.0f;
  if (col < n)
    for (int64_t row = r; row < m; row += kNeuronRows) {
      const float value = to_float(matrix[row * n + col]);
      sum += value * value;
    }
  sums[r][c] = sum;
  __syncthreads();
  if (r == 0 && col < n) {
    float total = sums[0][c];
#pragma unroll
    for (int i = 1; i < kNeuronRows; ++i) total += sums[i][c];
    factors[c] =
        neuron_factor(squares + blockIdx.y * n + col, total / static_cast<float>(m), beta, *apply != 0.0);
  }
  __syncthreads();
  if (col < n)
    for (int64_t row = r; row < m; row += kNeuronRows)
      matrix[row * n + col] = from_float<T>(to_float(matrix[row * n + col]) * factors[c]);
}

template <class T>
cudaError_t scale_neurons(T* x, float* squares, int64_t batch, int64_t m, int64_t n, double beta,
                          const double* apply, cudaStream_t stream) {
  const bool rows = m >= n;
  const dim3 grid(static_cast<unsigned>(rows ? m : divide_up(n, kNeuronColumns)),
                  static_cast<unsigned>(batch));
  return device_launch(LaunchConfig(grid, kScaleThreads, 0, stream),
                       rows ? &neuron_rows_kernel<T> : &neuron_columns_kernel<T>, x, squares, m, n, beta,
                       apply);
}

// A block a row of a: blockIdx.x = matrix * s + row.
template <class T>
__global__ void __launch_bounds__(kScaleThreads) row_factors_kernel(const T* a, int64_t s, double* factors) {
  DEVICE_SHARED(float, scratch, [kScaleThreads / kWarpSize]);
  const T* row = a + static_cast<int64_t>(blockIdx.x) * s;
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < s; i += kScaleThreads) sum += fabsf(to_float(row[i]));
  sum = block_sum<kScaleThreads>(sum, scratch);
  if (threadIdx.x == 0) factors[blockIdx.x] = sum > 0.0f ? 1.0 / sqrt(static_cast<double>(sum)) : 0.0;
}

// x (m, n) times the factors of its rows and of its columns, either of which may be null. A block a row.
template <class T>
__global__ void __launch_bounds__(kScaleThreads)
    scale_sides_kernel(T* x, int64_t m, int64_t n, const double* rows, const double* columns, int64_t s) {
  const int64_t matrix = blockIdx.x / m, row = blockIdx.x % m;
  const double of_row = rows == nullptr ? 1.0 : rows[matrix * s + row];
  T* values = x + (matrix * m + row) * n;
  for (int64_t i = threadIdx.x; i < n; i += kScaleThreads) {
    const double factor = columns == nullptr ? of_row : of_row * columns[matrix * s + i];
    values[i] = from_float<T>(to_float(values[i]) * static_cast<float>(factor));
  }
}

template <class T>
cudaError_t polar_precondition(T* x, T* a, double* factors, int64_t batch, int64_t m, int64_t n,
                               cudaStream_t stream) {
  const bool wide = m <= n;
  const int64_t s = wide ? m : n;
  const auto blocks = [&](int64_t rows) {
    return LaunchConfig(static_cast<unsigned>(batch * rows), kScaleThreads, 0, stream);
  };
  const double* none = nullptr;
  const double* found = factors;
  cudaError_t status = device_launch(blocks(s), &row_factors_kernel<T>, static_cast<const T*>(a), s, factors);
  if (status == cudaSuccess)
    status = device_launch(blocks(s), &scale_sides_kernel<T>, a, s, s, found, found, s);
  if (status == cudaSuccess)
    status = device_launch(blocks(m), &scale_sides_kernel<T>, x, m, n, wide ? found : none,
                           wide ? none : found, s);
  return status;
}

template <class T>
__global__ void __launch_bounds__(kScaleThreads) sign_kernel(T* x, int64_t count) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kScaleThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kScaleThreads + threadIdx.x; i < count; i += step) {
    const float value = to_float(x[i]);
    x[i] = from_float<T>(value > 0.0f ? 1.0f : value < 0.0f ? -1.0f : value);
  }
}

template <class T>
cudaError_t sign(T* x, int64_t count, cudaStream_t stream) {
  constexpr int64_t kMaximumBlocks = 4096;
  const int64_t blocks = divide_up(count, kScaleThreads);
  return device_launch(LaunchConfig(static_cast<unsigned>(blocks < kMaximumBlocks ? blocks : kMaximumBlocks),
                                    kScaleThreads, 0, stream),
                       &sign_kernel<T>, x, count);
}

template cudaError_t scale_neurons(float*, float*, int64_t, int64_t, int64_t, double, const double*,
                                   cudaStream_t);
template cudaError_t scale_neurons(bf16*, float*, int64_t, int64_t, int64_t, double, const double*,
                                   cudaStream_t);
template cudaError_t polar_precondition(float*, float*, double*, int64_t, int64_t, int64_t, cudaStream_t);
template cudaError_t polar_precondition(bf16*, bf16*, double*, int64_t, int64_t, int64_t, cudaStream_t);
template cudaError_t sign(float*, int64_t, cudaStream_t);
template cudaError_t sign(bf16*, int64_t, cudaStream_t);

}  // namespace polar::kernels

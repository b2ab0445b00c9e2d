// Embedding: a gather of rows (=), and its transpose (+= into F32), without atomics: positions are sorted by
// id, so that every row of the gradient has one writer and one order of additions, that of the positions.
// Floor in bytes an element of size s: forward 2 s (a row of the table read, one of out written; =); backward
// s (dout read) + 8 for every row of dtable that occurs (+=); the sort, two passes over 8 bytes a position
// and searches in the L2 cache, is little beside it.
//
// The sort: keys are (id, position), all different, so any correct sort gives the same order. Blocks sort
// chunks in shared memory (bitonic); then every key finds its place by counting, in every other chunk, the
// keys below it.
#include "embedding.h"

#include "pieces.cuh"

namespace polar::kernels {

constexpr int kEmbeddingThreads = 128;

template <class T>
__global__ void __launch_bounds__(kEmbeddingThreads)
    embedding_forward_kernel(const int32_t* ids, const T* table, T* out, int64_t out_stride, int64_t cols,
                             int64_t vocabulary, bool aligned) {
  const int64_t col = (static_cast<int64_t>(blockIdx.y) * kEmbeddingThreads + threadIdx.x) * kPiece<T>;
  if (col >= cols) return;
  const int64_t row = blockIdx.x, id = ids[row], valid = cols - col;
  const bool known = id >= 0 && id < vocabulary;
  for_piece(aligned && valid >= kPiece<T>, [&](auto whole) {
    float value[kPiece<T>];
    load_piece<whole.value>(table + (known ? id : 0) * cols + col, valid, value);
#pragma unroll
    for (float& v : value) v = known ? v : __uint_as_float(0x7fc00000u);  // NaN
    store_piece<whole.value>(out + row * out_stride + col, valid, value);
  });
}

template <class T>
cudaError_t embedding_forward(const int32_t* ids, const T* table, T* out, int64_t out_stride, int64_t rows,
                              int64_t cols, int64_t vocabulary, cudaStream_t stream) {
  const bool aligned = pieces_aligned(table, cols) && pieces_aligned(out, out_stride);
  const dim3 grid(static_cast<unsigned>(rows),
                  static_cast<unsigned>(divide_up(cols, int64_t{kEmbeddingThreads} * kPiece<T>)));
  return device_launch(LaunchConfig(grid, kEmbeddingThreads, 0, stream), &embedding_forward_kernel<T>, ids,
                       table, out, out_stride, cols, vocabulary, aligned);
}

// --- backward: sort ---

constexpr int kSortThreads = 512, kSortChunk = 2 * kSortThreads;

// Sorts the keys of chunk blockIdx.x of the positions into keys; missing positions count as the largest key
// and are not written.
__global__ void __launch_bounds__(kSortThreads)
    embedding_sort_kernel(const int32_t* ids, int64_t rows, uint64_t* keys) {
  DEVICE_SHARED(uint64_t, chunk, [kSortChunk]);
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kSortChunk;
  for (int i = static_cast<int>(threadIdx.x); i < kSortChunk; i += kSortThreads) {
    const int64_t position = begin + i;
    chunk[i] = position < rows ? static_cast<uint64_t>(static_cast<uint32_t>(ids[position])) << 32 |
                                     static_cast<uint64_t>(position)
                               : ~uint64_t{0};
  }
  // Bitonic: runs of `run` alternate between rising and falling and are merged in steps of falling distance.
  for (int run = 2; run <= kSortChunk; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      __syncthreads();
      const int thread = static_cast<int>(threadIdx.x);
      const int low = 2 * thread - (thread & (distance - 1)), high = low + distance;
      const bool rising = (low & run) == 0;
      const uint64_t a = chunk[low], b = chunk[high];
      if ((a > b) == rising) {
        chunk[low] = b;
        chunk[high] = a;
      }
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kSortChunk && begin + i < rows; i += kSortThreads)
    keys[begin + i] = chunk[i];
}

// sorted[place of keys[i] among all] = keys[i], for chunks sorted each by itself.
__global__ void __launch_bounds__(kSortThreads)
    embedding_merge_kernel(const uint64_t* keys, int64_t rows, uint64_t* sorted) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kSortThreads + threadIdx.x;
  if (i >= rows) return;
  const uint64_t key = keys[i];
  int64_t place = i % kSortChunk;
  for (int64_t begin = 0; begin < rows; begin += kSortChunk) {
    if (begin == i - i % kSortChunk) continue;
    int64_t low = begin, high = begin + kSortChunk < rows ? begin + kSortChunk : rows;
    while (low < high) {  // the first key above
      const int64_t middle = (low + high) / 2;
      if (keys[middle] < key)
        low = middle + 1;
      else
        high = middle;
    }
    place += low - begin;
  }
  sorted[place] = key;
}

// --- backward: add ---

__device__ __forceinline__ int64_t id_of_key(uint64_t key) {
  return static_cast<int32_t>(key >> 32);
}
__device__ __forceinline__ int64_t position_of_key(uint64_t key) {
  return static_cast<int64_t>(key & 0xffffffffu);
}

// The run of equal ids that starts at sorted[first]: adds to[...] and its rows in turn.
template <bool whole, class T>
__device__ __forceinline__ void embedding_add_run(const uint64_t* sorted, int64_t first, int64_t rows,
                                                  const T* dout, int64_t dout_stride, float* to,
                                                  int64_t valid) {
  constexpr int ahead = 4;  // rows whose loads are under way together
  const int64_t id = id_of_key(sorted[first]);
  float sum[kPiece<T>];
  load_piece<whole>(static_cast<const float*>(to), valid, sum);
  bool more = true;
  for (int64_t i = first; more; i += ahead) {
    Piece<whole, T> piece[ahead];
    bool here[ahead];
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      const uint64_t key = i + k < rows ? sorted[i + k] : ~uint64_t{0};
      here[k] = i + k < rows && id_of_key(key) == id;
      if (here[k]) piece[k].load(dout + position_of_key(key) * dout_stride, valid);
    }
#pragma unroll
    for (int k = 0; k < ahead; ++k) {
      if (!here[k]) continue;
      float value[kPiece<T>];
      piece[k].get(value);
#pragma unroll
      for (int j = 0; j < kPiece<T>; ++j) sum[j] += value[j];
    }
    more = here[ahead - 1];
  }
  store_piece<whole>(to, valid, sum);
}

// Block (i, y) does the run that starts at sorted[i], if one does: a thread a piece of columns.
template <class T>
__global__ void __launch_bounds__(kEmbeddingThreads)
    embedding_add_kernel(const uint64_t* sorted, const T* dout, int64_t dout_stride, float* dtable,
                         int64_t rows, int64_t cols, int64_t vocabulary, bool aligned) {
  const int64_t first = blockIdx.x, id = id_of_key(sorted[first]);
  const int64_t col = (static_cast<int64_t>(blockIdx.y) * kEmbeddingThreads + threadIdx.x) * kPiece<T>;
  if (first > 0 && id_of_key(sorted[first - 1]) == id) return;
  if (col >= cols || id < 0 || id >= vocabulary) return;
  for_piece(aligned && cols - col >= kPiece<T>, [&](auto whole) {
    embedding_add_run<whole.value>(sorted, first, rows, dout + col, dout_stride, dtable + id * cols + col,
                                   cols - col);
  });
}

template <class T>
cudaError_t embedding_backward(const int32_t* ids, const T* dout, int64_t dout_stride, float* dtable,
                               int64_t rows, int64_t cols, int64_t vocabulary, uint64_t* keys,
                               cudaStream_t stream) {
  const int64_t chunks = divide_up(rows, kSortChunk);
  uint64_t* sorted = chunks > 1 ? keys + rows : keys;
  cudaError_t status = device_launch(LaunchConfig(static_cast<unsigned>(chunks), kSortThreads, 0, stream),
                                     &embedding_sort_kernel, ids, rows, keys);
  if (status == cudaSuccess && chunks > 1)
    status = device_launch(
        LaunchConfig(static_cast<unsigned>(divide_up(rows, kSortThreads)), kSortThreads, 0, stream),
        &embedding_merge_kernel, keys, rows, sorted);
  if (status != cudaSuccess) return status;
  const bool aligned = pieces_aligned(dout, dout_stride) && pieces_aligned(dtable, cols);
  const dim3 grid(static_cast<unsigned>(rows),
                  static_cast<unsigned>(divide_up(cols, int64_t{kEmbeddingThreads} * kPiece<T>)));
  return device_launch(LaunchConfig(grid, kEmbeddingThreads, 0, stream), &embedding_add_kernel<T>, sorted,
                       dout, dout_stride, dtable, rows, cols, vocabulary, aligned);
}

int64_t embedding_backward_keys(int64_t rows) {
  return 2 * rows;
}

#define INSTANTIATE(T)                                                                                    \
  template cudaError_t embedding_forward<T>(const int32_t*, const T*, T*, int64_t, int64_t, int64_t,      \
                                            int64_t, cudaStream_t);                                       \
  template cudaError_t embedding_backward<T>(const int32_t*, const T*, int64_t, float*, int64_t, int64_t, \
                                             int64_t, uint64_t*, cudaStream_t);
INSTANTIATE(float)
INSTANTIATE(bf16)
#undef INSTANTIATE

}  // namespace polar::kernels

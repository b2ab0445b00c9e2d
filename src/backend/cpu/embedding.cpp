// Embedding: a gather of rows, and its transpose. The backward pass sorts the positions by id, so that every
// row of the gradient has one writer and one order of additions.
#include <algorithm>
#include <cstring>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

void require_ids(const Tensor& ids, int64_t vocabulary) {
  require(ids.dtype == DType::i32, "embedding: ids are I32");
  const int32_t* id = ids.as<int32_t>();
  for (int64_t i = 0; i < ids.count(); ++i)
    if (id[i] < 0 || id[i] >= vocabulary)
      fail("embedding: token id {} at position {} is outside the vocabulary [0, {})", id[i], i, vocabulary);
}

// Id and position in one integer, so that sorting keeps positions of equal id in order without allocating.
constexpr uint64_t sort_key(int32_t id, int64_t position) {
  return static_cast<uint64_t>(id) << 32 | static_cast<uint64_t>(position);
}
constexpr int64_t id_of(uint64_t key) {
  return static_cast<int64_t>(key >> 32);
}
constexpr int64_t position_of(uint64_t key) {
  return static_cast<int64_t>(key & 0xFFFFFFFFu);
}

template <class T>
void add_row(const T* from, T* to, int64_t cols) {
#pragma omp simd
  for (int64_t j = 0; j < cols; ++j) to[j] += from[j];
}

}  // namespace

void embedding_forward(const Tensor& ids, const Tensor& table, const MatrixView& out) {
  const int64_t cols = out.cols;
  require(out.rows == ids.count() && table.shape.rank() == 2 && table.shape[1] == cols,
          "embedding_forward: ids (N), table (V, C), out (N, C)");
  require(table.dtype == out.dtype, "embedding_forward: table and out share a dtype");
  require_ids(ids, table.shape[0]);
  dispatch(table.dtype, "embedding_forward", [&]<class T>(T) {
    parallel_ranges(out.rows, std::max<int64_t>(1, kTaskElements / cols), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        std::memcpy(static_cast<T*>(out.data) + i * out.stride, table.as<T>() + ids.as<int32_t>()[i] * cols,
                    static_cast<size_t>(cols) * sizeof(T));
    });
  });
}

void embedding_backward(const Tensor& ids, const MatrixView& dout, const Tensor& dtable,
                        const Tensor& workspace) {
  const int64_t rows = dout.rows, cols = dout.cols;
  require(rows == ids.count() && dtable.shape.rank() == 2 && dtable.shape[1] == cols,
          "embedding_backward: ids (N), dout (N, C), dtable (V, C)");
  require(dtable.dtype == dout.dtype, "embedding_backward: dout and dtable share a dtype");
  require(workspace.bytes() >= embedding_backward_workspace(rows), "embedding_backward: workspace too small");
  require_ids(ids, dtable.shape[0]);
  auto* keys = workspace.as<uint64_t>();
  for (int64_t i = 0; i < rows; ++i) keys[i] = sort_key(ids.as<int32_t>()[i], i);
  std::sort(keys, keys + rows);
  dispatch(dout.dtype, "embedding_backward", [&]<class T>(T) {
    // A task does the ids whose first position lies in its range, each to its last position.
    const auto continues = [=](int64_t i) { return i > 0 && id_of(keys[i]) == id_of(keys[i - 1]); };
    parallel_ranges(rows, std::max<int64_t>(1, kTaskElements / cols), [&](int64_t begin, int64_t end) {
      int64_t i = begin;
      while (i < end && continues(i)) ++i;
      if (i == end) return;
      for (; i < rows && (i < end || continues(i)); ++i)
        add_row(static_cast<const T*>(dout.data) + position_of(keys[i]) * dout.stride,
                dtable.as<T>() + id_of(keys[i]) * cols, cols);
    });
  });
}

size_t embedding_backward_workspace(int64_t rows) {
  return static_cast<size_t>(rows) * sizeof(uint64_t);
}

}  // namespace polar::cpu

#include "backend/cpu/gemm_product.h"

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

// Of a and b at most this much is packed at a time, so that it stays in the L2 cache.
constexpr int64_t kPackedTiles = 8;    // row blocks of a: 120 KiB in f32
constexpr int64_t kPackedPanels = 32;  // panels of b: 1 MiB
// With so few rows, as in decoding, a panel is used once or twice: better while it is still in L1.
constexpr int64_t kFewRows = 2 * kTileRows;

constexpr size_t kBytesOfA = kPackedTiles * kTileRows * kPackedRow * sizeof(double);
constexpr size_t kBytesOfB = kPackedPanels * kBlockDepth * kTileColumns<double> * sizeof(double);
constexpr size_t kAlignment = 4096;

// The packed operands of one thread.
struct PackingBuffers {
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> a{allocate(kBytesOfA)}, b{allocate(kBytesOfB)};

  static void* allocate(size_t bytes) {
    void* memory = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
  }
};

PackingBuffers& packing_buffers() {
  thread_local PackingBuffers buffers;
  return buffers;
}

// One tile; the last columns go through a whole tile beside c, so that the same code computes them.
template <class T>
void tile_of(const MatrixProduct<T>& p, const Tile<T>& tile, int64_t rows, int64_t cols) {
  const auto kernel = p.a.transposed ? kTileKernels<T, PackedA::columns>[static_cast<size_t>(rows - 1)]
                                     : kTileKernels<T, PackedA::rows>[static_cast<size_t>(rows - 1)];
  if (cols >= kTileColumns<T>) return kernel(tile);
  T beside[kTileRows * kTileColumns<T>] = {};
  if (tile.beta != T(0))
    for (int64_t r = 0; r < rows; ++r)
      std::copy_n(tile.addend + r * tile.addend_stride, cols, beside + r * kTileColumns<T>);
  Tile<T> whole = tile;
  whole.addend = whole.c = beside;
  whole.addend_stride = whole.c_stride = kTileColumns<T>;
  kernel(whole);
  for (int64_t r = 0; r < rows; ++r)
    std::copy_n(beside + r * kTileColumns<T>, cols, tile.c + r * tile.c_stride);
}

// The tiles of `rows` rows and `cols` columns of c from (row, col) on, whose operands are packed.
template <class T>
void tiles_of(const MatrixProduct<T>& p, int64_t row, int64_t rows, int64_t col, int64_t cols, Tile<T> tile) {
  const T* a = tile.a;
  const T* addend = tile.beta == T(0) ? nullptr : tile.addend + row * tile.addend_stride + col;
  T* c = tile.c + row * tile.c_stride + col;
  const T* b = tile.b;
  for (int64_t i = 0; i < rows; i += kTileRows) {
    const int64_t tile_rows = std::min<int64_t>(kTileRows, rows - i);
    tile.a = a + i * kPackedRow;
    for (int64_t j = 0; j < cols; j += kTileColumns<T>) {
      if (p.lower && row + i + tile_rows <= col + j) break;
      tile.b = b + j * kBlockDepth;
      if (addend != nullptr) tile.addend = addend + i * tile.addend_stride + j;
      tile.c = c + i * tile.c_stride + j;
      tile_of(p, tile, tile_rows, cols - j);
    }
  }
}

// k is cut into equal blocks; where depends on k alone.
int64_t block_depth(int64_t k) {
  constexpr int64_t kMultiple = 16;
  return divide_up(divide_up(k, divide_up(k, kBlockDepth)), kMultiple) * kMultiple;
}

// c = beta * addend: the product of empty sums.
template <class T>
void scale_addend(const MatrixProduct<T>& p) {
  for (int64_t i = 0; i < p.rows; ++i)
    for (int64_t j = 0; j < p.cols; ++j)
      p.c[i * p.c_stride + j] = p.beta == T(0) ? T(0) : p.beta * p.addend[i * p.addend_stride + j];
}

}  // namespace

void reserve_packing_buffers() {
  packing_buffers();
}

template <class T>
MatrixProduct<T> MatrixProduct<T>::part(int64_t row, int64_t part_rows, int64_t col,
                                        int64_t part_cols) const {
  MatrixProduct out = *this;
  out.rows = part_rows;
  out.cols = part_cols;
  out.a = a.from(row, 0);
  out.b = b.from(0, col);
  if (addend != nullptr) out.addend = addend + row * addend_stride + col;
  out.c = c + row * c_stride + col;
  return out;
}

template <class T>
void multiply(const MatrixProduct<T>& p) {
  if (p.depth == 0) return scale_addend(p);
  PackingBuffers& buffers = packing_buffers();
  T* const packed_a = static_cast<T*>(buffers.a.get());
  T* const packed_b = static_cast<T*>(buffers.b.get());
  const int64_t step_of_cols = (p.rows <= kFewRows ? 1 : kPackedPanels) * kTileColumns<T>;
  const int64_t step_of_rows = kPackedTiles * kTileRows;
  const int64_t depth = block_depth(p.depth);
  for (int64_t col = 0; col < p.cols; col += step_of_cols) {
    const int64_t cols = std::min(step_of_cols, p.cols - col);
    for (int64_t k = 0; k < p.depth; k += depth) {
      const bool first = k == 0;
      const Tile<T> tile{.depth = std::min(depth, p.depth - k),
                         .a = packed_a,
                         .b = packed_b,
                         .beta = first ? p.beta : T(1),
                         .addend = first ? p.addend : p.c,
                         .addend_stride = first ? p.addend_stride : p.c_stride,
                         .c = p.c,
                         .c_stride = p.c_stride};
      pack_b(p.b.from(k, col), tile.depth, cols, p.alpha, packed_b);
      for (int64_t row = 0; row < p.rows; row += step_of_rows) {
        const int64_t rows = std::min(step_of_rows, p.rows - row);
        if (p.lower && row + rows <= col) continue;
        pack_a(p.a.from(row, k), rows, tile.depth, packed_a);
        tiles_of(p, row, rows, col, cols, tile);
      }
    }
  }
}

// Costs in cycles for each k: of a tile, and of packing a row of a and a column of b (measured).
template <class T>
Grid choose_grid(int64_t rows, int64_t cols, int64_t threads) {
  constexpr double kRowOfA = 0.12, kColumnOfB = 0.3;
  Grid best{rows, cols, 1, 1};
  double least = 1e300;
  for (int64_t down = 1; down <= std::min(divide_up(rows, kTileRows), threads); ++down)
    for (int64_t across = 1; across <= threads; ++across) {
      Grid grid{divide_up(divide_up(rows, down), kTileRows) * kTileRows,
                divide_up(divide_up(cols, across), kTileColumns<T>) * kTileColumns<T>, 0, 0};
      grid.down = divide_up(rows, grid.rows);
      grid.across = divide_up(cols, grid.cols);
      const double turns = static_cast<double>(divide_up(grid.down * grid.across, threads));
      const double part_rows = static_cast<double>(std::min(grid.rows, rows));
      const double part_cols = static_cast<double>(std::min(grid.cols, cols));
      const double panels = static_cast<double>(divide_up(grid.cols, kTileColumns<T>));
      const double cost = turns * (panels * part_rows + kRowOfA * part_rows + kColumnOfB * part_cols);
      if (cost < least) {
        least = cost;
        best = grid;
      }
    }
  return best;
}

template struct MatrixProduct<float>;
template struct MatrixProduct<double>;
template void multiply(const MatrixProduct<float>&);
template void multiply(const MatrixProduct<double>&);
template Grid choose_grid<float>(int64_t, int64_t, int64_t);
template Grid choose_grid<double>(int64_t, int64_t, int64_t);

}  // namespace polar::cpu

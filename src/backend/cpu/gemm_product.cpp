#include "backend/cpu/gemm_product.h"

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

#include "backend/cpu/gemm_split.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

// Of a and b at most this much is packed at a time, so that it stays in the L2 cache.
constexpr int64_t kPackedBlocks = 8;   // of rows of a: 170 KiB in f32
constexpr int64_t kPackedPanels = 24;  // of b: 1.1 MiB
// With so few rows, as in decoding, a panel is used once or twice: better while it is still in L1.
constexpr int64_t kFewRows = 2 * kTileRows;

// The packed operands of one thread, for either dtype.
class PackingBuffers {
 public:
  template <class T>
  T* a() const {
    return reinterpret_cast<T*>(memory_.get() + kBytesOfB);
  }
  template <class T>
  T* b() const {
    return reinterpret_cast<T*>(memory_.get());
  }

 private:
  static constexpr size_t kAlignment = 4096;
  static constexpr size_t kBytesOfB = kPackedPanels * kPanel<double> * sizeof(double);
  static constexpr size_t kBytesOfA = kPackedBlocks * kPackedRows * sizeof(double);
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  static std::byte* allocate() {
    constexpr size_t bytes = (kBytesOfA + kBytesOfB + kAlignment - 1) / kAlignment * kAlignment;
    void* memory = std::aligned_alloc(kAlignment, bytes);
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<std::byte*>(memory);
  }
  std::unique_ptr<std::byte, Free> memory_{allocate()};
};

const PackingBuffers& packing_buffers() {
  thread_local const PackingBuffers buffers;
  return buffers;
}

// One tile; the last columns go through a whole tile beside c, so that the same code computes them.
template <class T>
void multiply_tile_of(bool packed, const Tile<T>& tile, int64_t rows, int64_t cols) {
  const auto index = static_cast<size_t>(rows - 1);
  const auto kernel =
      packed ? kTileKernels<T, LayoutOfA::packed>[index] : kTileKernels<T, LayoutOfA::rows>[index];
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

// A part of c and the k whose products are added to it in one go.
struct Block {
  int64_t row, rows, col, cols, k, depth;
};

// All tiles of a block, row by row of tiles: the rows of a stay in L1 while the panels pass by.
template <class T>
void multiply_block(const MatrixProduct<T>& p, const Block& block, const T* packed_a, const T* packed_b) {
  const bool first = block.k == 0;  // later blocks add to what is there
  const T* addend = first ? p.addend : p.c;
  Tile<T> tile;
  tile.depth = block.depth;
  tile.a_stride = p.a.stride;
  tile.beta = first ? p.beta : T(1);
  tile.addend_stride = first ? p.addend_stride : p.c_stride;
  tile.c_stride = p.c_stride;
  for (int64_t i = 0; i < block.rows; i += kTileRows) {
    const int64_t rows = std::min<int64_t>(kTileRows, block.rows - i), row = block.row + i;
    tile.a = p.a.transposed ? packed_a + i / kTileRows * kPackedRows : p.a.from(row, block.k).data;
    for (int64_t j = 0; j < block.cols; j += kTileColumns<T>) {
      const int64_t col = block.col + j;
      if (p.lower && row + rows <= col) break;
      tile.b = packed_b + j / kTileColumns<T> * kPanel<T>;
      if (tile.beta != T(0)) tile.addend = addend + row * tile.addend_stride + col;
      tile.c = p.c + row * p.c_stride + col;
      multiply_tile_of(p.a.transposed, tile, rows, block.cols - j);
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
  reserve_split_buffers();
}

template <class T>
MatrixProduct<T> choose_kernel(MatrixProduct<T> product, PolarPrecision precision) {
  if (std::is_same_v<T, float> && has_matrix_units() &&
      gains_from_matrix_units(product.rows, product.cols, product.depth))
    product.kernel =
        precision == PolarPrecision::full ? ProductKernel::three_parts : ProductKernel::two_parts;
  return product;
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
  if constexpr (std::is_same_v<T, float>)
    if (p.kernel != ProductKernel::multiply_add) return multiply_split(p);
  T* const packed_a = packing_buffers().a<T>();
  T* const packed_b = packing_buffers().b<T>();
  const int64_t row_step = p.a.transposed ? kPackedBlocks * kTileRows : p.rows;
  const int64_t col_step = (p.rows <= kFewRows ? 1 : kPackedPanels) * kTileColumns<T>;
  const int64_t depth_step = block_depth(p.depth);
  for (int64_t col = 0; col < p.cols; col += col_step) {
    const int64_t cols = std::min(col_step, p.cols - col);
    for (int64_t k = 0; k < p.depth; k += depth_step) {
      const int64_t depth = std::min(depth_step, p.depth - k);
      pack_b(p.b.from(k, col), depth, cols, p.alpha, packed_b);
      for (int64_t row = 0; row < p.rows; row += row_step) {
        const int64_t rows = std::min(row_step, p.rows - row);
        if (p.lower && row + rows <= col) continue;
        if (p.a.transposed) pack_a(p.a.from(row, k), rows, depth, packed_a);
        multiply_block(p, {row, rows, col, cols, k, depth}, packed_a, packed_b);
      }
    }
  }
}

// Costs in units of a row (or, split, of a strip of 32) of a tile for each k; fetching or packing a row of a
// and a column of b: what fits best among these and others on two cores.
template <class T>
Grid choose_grid(const MatrixProduct<T>& product, int64_t threads) {
  const bool split = product.kernel != ProductKernel::multiply_add;
  const double row_of_a = split ? 0.2 : 0.1, column_of_b = split ? 0.4 : 0.1;
  const int64_t rows = product.rows, cols = product.cols;
  const int64_t row_step = split ? 32 : kTileRows, col_step = kTileColumns<T>;
  Grid best{rows, cols, 1, 1};
  double least = 1e300;
  for (int64_t down = 1; down <= std::min(divide_up(rows, row_step), threads); ++down)
    for (int64_t across = 1; across <= threads; ++across) {
      Grid grid{divide_up(divide_up(rows, down), row_step) * row_step,
                divide_up(divide_up(cols, across), col_step) * col_step, 0, 0};
      grid.down = divide_up(rows, grid.rows);
      grid.across = divide_up(cols, grid.cols);
      const double turns = static_cast<double>(divide_up(grid.down * grid.across, threads));
      const double part_rows = static_cast<double>(std::min(grid.rows, rows));
      const double part_cols = static_cast<double>(std::min(grid.cols, cols));
      const double panels = static_cast<double>(divide_up(grid.cols, col_step));
      const double cost = turns * (panels * part_rows + row_of_a * part_rows + column_of_b * part_cols);
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
template MatrixProduct<float> choose_kernel(MatrixProduct<float>, PolarPrecision);
template MatrixProduct<double> choose_kernel(MatrixProduct<double>, PolarPrecision);
template Grid choose_grid(const MatrixProduct<float>&, int64_t);
template Grid choose_grid(const MatrixProduct<double>&, int64_t);

}  // namespace polar::cpu

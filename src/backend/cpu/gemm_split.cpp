#include "backend/cpu/gemm_split.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "backend/cpu/parallel.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

#include "backend/cpu/gemm_split_pack.h"

namespace polar::cpu {
namespace {

// k of a block and the strips of the fixed operand that are packed for it: 1.1 MiB, which stay in the L2
// cache.
constexpr int64_t kSplitDepth = 384;
constexpr int64_t kFixedStrips = 16;
constexpr int64_t kPackedStrip = kSplitDepth / kTileDepth * kStripStep<3>;

// One thread's packed operands.
class SplitBuffers {
 public:
  uint16_t* fixed(int64_t strip) const { return memory_.get() + strip * kPackedStrip; }
  uint16_t* passing(int64_t strip) const { return fixed(kFixedStrips + strip % 2); }

 private:
  struct Free {
    void operator()(uint16_t* memory) const { std::free(memory); }
  };
  static uint16_t* allocate() {
    constexpr size_t kAlignment = 4096, bytes = (kFixedStrips + 2) * kPackedStrip * sizeof(uint16_t);
    static_assert(bytes % kAlignment == 0);
    void* memory = std::aligned_alloc(kAlignment, bytes);
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<uint16_t*>(memory);
  }
  std::unique_ptr<uint16_t, Free> memory_{allocate()};
};

const SplitBuffers& split_buffers() {
  thread_local const SplitBuffers buffers;
  return buffers;
}

// --- the inner kernel --------------------------------------------------------------------------------------

// All eight tile registers as 16 rows of 64 bytes while it lives.
class TileRegisters {
 public:
  TileRegisters() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } configuration;
    std::fill_n(configuration.row_bytes, 8, uint16_t{64});
    std::fill_n(configuration.rows, 8, uint8_t{16});
    _tile_loadconfig(&configuration);
  }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

// A square of c, (kStrip, kStrip), held in registers 0 to 3.
struct Square {
  float* data;
  int64_t stride;
};

// Registers: 0-3 the sums, 4 and 5 a part of a, 6 and 7 a part of b. The six products follow each other so
// that one operand stays; the macros are there because the registers' numbers are immediates.
#define POLAR_LOAD_A(part)                              \
  _tile_loadd(4, a + 2 * (part)*kTile, 2 * kTileDepth); \
  _tile_loadd(5, a + 2 * (part)*kTile + kTile, 2 * kTileDepth)
#define POLAR_LOAD_B(part)                              \
  _tile_loadd(6, b + 2 * (part)*kTile, 2 * kTileDepth); \
  _tile_loadd(7, b + 2 * (part)*kTile + kTile, 2 * kTileDepth)
#define POLAR_MULTIPLY()   \
  _tile_dpbf16ps(0, 4, 6); \
  _tile_dpbf16ps(1, 4, 7); \
  _tile_dpbf16ps(2, 5, 6); \
  _tile_dpbf16ps(3, 5, 7)
#define POLAR_EACH_SUM(what, square)                                      \
  what(0, (square).data, (square).stride * 4);                            \
  what(1, (square).data + kLines, (square).stride * 4);                   \
  what(2, (square).data + kLines * (square).stride, (square).stride * 4); \
  what(3, (square).data + kLines * (square).stride + kLines, (square).stride * 4)

// The packed strips of a product and what is to be packed beside it.
template <int kParts>
struct Strips {
  const uint16_t* a;
  const uint16_t* b;
  int64_t depth;
  Chore<kParts> chores[2];
};
// Products of parts for each kTileDepth of k.
template <int kParts>
constexpr int64_t kProducts = kParts*(kParts + 1) / 2;

// c = (initial or 0) + a b.
template <int kParts>
void multiply_strips(Strips<kParts>& strips, const Square* initial, const Square& c) {
  const uint16_t* a = strips.a;
  const uint16_t* b = strips.b;
  if (initial == nullptr) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    POLAR_EACH_SUM(_tile_loadd, *initial);
  }
  const int64_t steps = divide_up(strips.depth, kTileDepth);
  for (int64_t i = 0; i < kStrip; ++i) {  // c is on its way while the sums are made
    __builtin_prefetch(c.data + i * c.stride, 1);
    __builtin_prefetch(c.data + i * c.stride + kLines, 1);
  }
  const auto chores = [&strips] {
    strips.chores[0].step();
    strips.chores[1].step();
  };
  for (int64_t i = 0; i < steps; ++i, a += kStripStep<kParts>, b += kStripStep<kParts>) {
    if constexpr (kParts == 3) {
      POLAR_LOAD_A(2);
      POLAR_LOAD_B(0);
      POLAR_MULTIPLY();
      chores();
      POLAR_LOAD_A(0);
      POLAR_MULTIPLY();
      chores();
      POLAR_LOAD_B(2);
      POLAR_MULTIPLY();
      chores();
      POLAR_LOAD_B(1);
      POLAR_MULTIPLY();
      chores();
      POLAR_LOAD_A(1);
      POLAR_MULTIPLY();
      chores();
      POLAR_LOAD_B(0);
      POLAR_MULTIPLY();
      chores();
    } else {
      POLAR_LOAD_A(1);
      POLAR_LOAD_B(0);
      POLAR_MULTIPLY();
      chores();
      POLAR_LOAD_A(0);
      POLAR_MULTIPLY();
      chores();
      POLAR_LOAD_B(1);
      POLAR_MULTIPLY();
      chores();
    }
  }
  POLAR_EACH_SUM(_tile_stored, c);
}

#undef POLAR_LOAD_A
#undef POLAR_LOAD_B
#undef POLAR_MULTIPLY
#undef POLAR_EACH_SUM

// --- the product -------------------------------------------------------------------------------------------

// Where a square of c starts from and where it goes. What is not a whole square of c, or is scaled on the
// way, passes through a square beside it.
struct Target {
  const float* addend;  // nullptr: from zero
  int64_t addend_stride;
  float beta;
  float* c;
  int64_t c_stride;
  int64_t rows, cols;
};

template <int kParts>
void multiply_square(Strips<kParts>& strips, const Target& to) {
  alignas(64) float beside[kStrip * kStrip];
  const bool whole = to.rows >= kStrip && to.cols >= kStrip;
  Square initial{const_cast<float*>(to.addend), to.addend_stride};  // read only
  if (to.addend != nullptr && (!whole || to.beta != 1.0f)) {
    for (int64_t i = 0; i < std::min(kStrip, to.rows); ++i)
      for (int64_t j = 0; j < std::min(kStrip, to.cols); ++j)
        beside[i * kStrip + j] = to.beta * to.addend[i * to.addend_stride + j];
    initial = {beside, kStrip};
  }
  multiply_strips(strips, to.addend == nullptr ? nullptr : &initial,
                  whole ? Square{to.c, to.c_stride} : Square{beside, kStrip});
  if (!whole)
    for (int64_t i = 0; i < std::min(kStrip, to.rows); ++i)
      std::copy_n(beside + i * kStrip, std::min(kStrip, to.cols), to.c + i * to.c_stride);
}

// k is cut into equal blocks; where depends on k alone.
int64_t split_block_depth(int64_t k) {
  return divide_up(divide_up(k, divide_up(k, kSplitDepth)), kTileDepth) * kTileDepth;
}

// The product for one block of k and some strips of the fixed operand, which is b, or an a that is smaller.
// The strips of the other pass by, each through all fixed ones; the next one is packed meanwhile, and so are
// the fixed ones while the first passes.
template <int kParts>
class BlockProduct {
 public:
  BlockProduct(const MatrixProduct<float>& p, const SplitBuffers& buffers, bool a_is_fixed)
      : p_(p), buffers_(buffers), a_is_fixed_(a_is_fixed) {}

  // `first` and `count`: rows of a or columns of b that are fixed.
  void run(int64_t first, int64_t count, int64_t k, int64_t depth) {
    first_ = first;
    count_ = count;
    k_ = k;
    depth_ = depth;
    packed_ = 0;
    const int64_t end = a_is_fixed_ ? p_.cols : p_.rows;
    // Of a lower triangle b is fixed, and above the diagonal are only elements that nobody wants.
    const int64_t begin = p_.lower ? std::min(first / kStrip * kStrip, end) : 0;
    Packing next = packing(!a_is_fixed_, begin, end, buffers_.passing(begin / kStrip));
    next.pack(next.left());
    for (int64_t at = begin; at < end; at += kStrip) {
      next = packing(!a_is_fixed_, at + kStrip, end, buffers_.passing(at / kStrip + 1));
      pass(at, next);
      next.pack(next.left());
    }
  }

 private:
  using Packing = StripPacking<kParts>;
  // Of the strip of a or b that begins at row or column `at`; nothing to do from `end` on.
  Packing packing(bool of_a, int64_t at, int64_t end, uint16_t* to) const {
    if (at >= end) return {};
    const int64_t lines = std::min(kStrip, end - at);
    return of_a ? Packing::of_a(p_.a.from(at, k_), lines, depth_, to)
                : Packing::of_b(p_.b.from(k_, at), lines, depth_, p_.alpha, to);
  }
  Packing packing_of_fixed(int64_t strip) const {
    return packing(a_is_fixed_, first_ + strip * kStrip, first_ + count_, buffers_.fixed(strip));
  }

  void pass(int64_t at, Packing& next) {
    const int64_t wanted = p_.lower ? std::min(count_, at + kStrip - first_) : count_;
    const int64_t strips = divide_up(wanted, kStrip),
                  steps = kProducts<kParts> * divide_up(depth_, kTileDepth);
    for (int64_t j = 0; j < strips; ++j) {
      if (packed_ == j) {
        Packing now = packing_of_fixed(packed_++);
        now.pack(now.left());
      }
      Packing next_fixed;
      if (packed_ == j + 1) next_fixed = packing_of_fixed(packed_++);
      const uint16_t *passing = buffers_.passing(at / kStrip), *fixed = buffers_.fixed(j);
      Strips<kParts> operands{a_is_fixed_ ? fixed : passing,
                              a_is_fixed_ ? passing : fixed,
                              depth_,
                              {Chore<kParts>(next, divide_up(next.left(), strips - j), steps),
                               Chore<kParts>(next_fixed, next_fixed.left(), steps)}};
      const int64_t fixed_at = first_ + j * kStrip;
      multiply_square(operands, a_is_fixed_ ? target(fixed_at, at) : target(at, fixed_at));
    }
  }

  Target target(int64_t row, int64_t col) const {
    const bool first = k_ == 0;  // later blocks add to what is there
    const float* addend = !first ? p_.c : p_.beta == 0.0f ? nullptr : p_.addend;
    const int64_t stride = first ? p_.addend_stride : p_.c_stride;
    return {addend == nullptr ? nullptr : addend + row * stride + col,
            stride,
            first ? p_.beta : 1.0f,
            p_.c + row * p_.c_stride + col,
            p_.c_stride,
            p_.rows - row,
            p_.cols - col};
  }

  const MatrixProduct<float>& p_;
  const SplitBuffers& buffers_;
  const bool a_is_fixed_;
  int64_t first_ = 0, count_ = 0, k_ = 0, depth_ = 0;
  int64_t packed_ = 0;  // fixed strips that are packed, or on the way
};

bool ask_for_matrix_units() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return __builtin_cpu_supports("amx-bf16") != 0 &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool has_matrix_units() {
  static const bool have = ask_for_matrix_units();
  return have;
}

bool gains_from_matrix_units(int64_t rows, int64_t cols, int64_t depth) {
  return rows >= kStrip && cols >= kLines && depth >= kTileDepth;
}

void reserve_split_buffers() {
  if (has_matrix_units()) split_buffers();
}

namespace {

template <int kParts>
void multiply_in_blocks(const MatrixProduct<float>& p) {
  const TileRegisters registers;
  const bool a_is_fixed = !p.lower && p.rows < p.cols && p.rows <= kFixedStrips * kStrip;
  BlockProduct<kParts> block(p, split_buffers(), a_is_fixed);
  const int64_t all = a_is_fixed ? p.rows : p.cols, depth_step = split_block_depth(p.depth);
  for (int64_t first = 0; first < all; first += kFixedStrips * kStrip)
    for (int64_t k = 0; k < p.depth; k += depth_step)
      block.run(first, std::min(kFixedStrips * kStrip, all - first), k, std::min(depth_step, p.depth - k));
}

}  // namespace

void multiply_split(const MatrixProduct<float>& p) {
  p.kernel == ProductKernel::three_parts ? multiply_in_blocks<3>(p) : multiply_in_blocks<2>(p);
}

}  // namespace polar::cpu

#else

namespace polar::cpu {

bool has_matrix_units() {
  return false;
}
bool gains_from_matrix_units(int64_t, int64_t, int64_t) {
  return false;
}
void reserve_split_buffers() {}
void multiply_split(const MatrixProduct<float>& product) {
  multiply(product);
}

}  // namespace polar::cpu

#endif

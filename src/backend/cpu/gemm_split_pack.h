// Splitting of fp32 operands into bf16 parts, packed as the matrix units read them (see gemm_split.h). Only
// for gemm_split.cpp, where the compiler knows the instructions.
//
// A strip is 32 rows of a or 32 columns of b. For every 32 of k it holds the parts one after the other, each
// as two tiles of 16 lines: a line of a is 32 consecutive k, a row of a tile of b is a pair of k for each of
// 16 columns.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/cpu/gemm_pack.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/simd.h"
// GCC 12 takes the undefined vectors that its own intrinsics start from for mistakes (its bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

namespace polar::cpu {

constexpr int64_t kLines = 16;                  // rows of a, or columns of b, in a tile register
constexpr int64_t kTileDepth = 32;              // k in a tile register: 16 pairs
constexpr int64_t kTile = kLines * kTileDepth;  // bf16 in a tile register
constexpr int64_t kStrip = 2 * kLines;          // rows of a or columns of b of one inner kernel
// bf16 of a strip for kTileDepth of k: parts, then halves.
template <int kParts>
constexpr int64_t kStripStep = 2 * kParts* kTile;

// --- splitting ---------------------------------------------------------------------------------------------

template <int kParts>
struct Split {
  __m512i part[kParts];  // 32 bf16 each
};

__m512i to_bf16(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

// Of 32 consecutive values: part p holds them in order.
template <int kParts>
[[gnu::always_inline]] inline Split<kParts> split_along(__m512 low, __m512 high) {
  Split<kParts> split;
  for (int p = 0;; ++p) {
    split.part[p] = to_bf16(low, high);
    if (p + 1 == kParts) return split;
    const auto widen = [](__m256i x) {
      return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
    };
    low -= widen(_mm512_castsi512_si256(split.part[p]));
    high -= widen(_mm512_extracti64x4_epi64(split.part[p], 1));
  }
}

// Of 16 values at an even k and the 16 beside them at the next k: part p holds pair by pair.
template <int kParts>
[[gnu::always_inline]] inline Split<kParts> split_pairs(__m512 even, __m512 odd) {
  const __m512i interleaved = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                               23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  Split<kParts> split;
  for (int p = 0;; ++p) {
    split.part[p] = _mm512_permutexvar_epi16(interleaved, to_bf16(even, odd));
    if (p + 1 == kParts) return split;
    even -= _mm512_castsi512_ps(_mm512_slli_epi32(split.part[p], 16));
    odd -= _mm512_castsi512_ps(_mm512_and_si512(split.part[p], _mm512_set1_epi32(-65536)));
  }
}

// --- packing -----------------------------------------------------------------------------------------------

// A piece of an operand that fills one tile register for each part: up to 16 lines (rows of a, columns of b)
// and 32 of k, zeros beyond.
struct Piece {
  const float* from;
  int64_t stride;
  int64_t lines, depth;
};

constexpr __mmask16 first_lanes(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1);
}

// Line or pair `i` of a piece. kAlong: a line runs along k in memory; else a step of k runs across the lines.
template <int kParts, bool kAlong>
[[gnu::always_inline]] inline Split<kParts> split_piece(const Piece& piece, int64_t i, __m512 alpha) {
  __m512 first, second;
  if constexpr (kAlong) {
    const float* line = piece.from + i * piece.stride;
    const int64_t depth = i < piece.lines ? piece.depth : 0;
    first = _mm512_maskz_loadu_ps(first_lanes(depth), line);
    second = _mm512_maskz_loadu_ps(first_lanes(depth - 16), line + 16);
    return split_along<kParts>(alpha * first, alpha * second);
  } else {
    const float* step = piece.from + 2 * i * piece.stride;
    __builtin_prefetch(step + kTileDepth * piece.stride);  // of the next piece: no line is used twice
    __builtin_prefetch(step + (kTileDepth + 1) * piece.stride);
    first = _mm512_maskz_loadu_ps(first_lanes(2 * i < piece.depth ? piece.lines : 0), step);
    second =
        _mm512_maskz_loadu_ps(first_lanes(2 * i + 1 < piece.depth ? piece.lines : 0), step + piece.stride);
    return split_pairs<kParts>(alpha * first, alpha * second);
  }
}

// The packing of one strip of an operand in small units, so that it can be done between other things.
template <int kParts>
class StripPacking {
 public:
  StripPacking() = default;
  // The first `lines` rows of an operand a, at most kStrip, and its first `depth` columns.
  static StripPacking of_a(const Operand<float>& a, int64_t lines, int64_t depth, uint16_t* to) {
    return {a, !a.transposed, a.transposed, lines, depth, 1.0f, to};
  }
  // The first `lines` columns of an operand b and its first `depth` rows, times alpha.
  static StripPacking of_b(const Operand<float>& b, int64_t lines, int64_t depth, float alpha, uint16_t* to) {
    return {b, b.transposed, b.transposed, lines, depth, alpha, to};
  }

  int64_t left() const { return left_; }
  void pack(int64_t units) {
    if (units <= 0) return;
    left_ -= units;
    if (along_)
      turn_ ? pack_units<true, true>(units) : pack_units<true, false>(units);
    else
      turn_ ? pack_units<false, true>(units) : pack_units<false, false>(units);
  }

 private:
  StripPacking(const Operand<float>& x, bool along, bool turn, int64_t lines, int64_t depth, float alpha,
               uint16_t* to)
      : from_(x.data),
        stride_(x.stride),
        along_(along),
        turn_(turn),
        lines_(lines),
        depth_(depth),
        alpha_(alpha),
        to_(to),
        left_(2 * divide_up(depth, kTileDepth) * (turn ? kLines + kParts : kLines)) {}

  // A piece takes kLines units and, if it has to be turned, kParts more: its registers hold lines where pairs
  // are wanted, or the other way round, and both are squares of 16 x 16 pairs.
  template <bool kAlong, bool kTurn>
  void pack_units(int64_t units) {
    const __m512 factor = _mm512_set1_ps(alpha_);
    while (units > 0) {
      const int64_t k = piece_ / 2 * kTileDepth, line = piece_ % 2 * kLines;
      uint16_t* const to = to_ + piece_ / 2 * kStripStep<kParts> + piece_ % 2 * kTile;
      if (unit_ < kLines) {
        const Piece piece{from_ + (kAlong ? line * stride_ + k : k * stride_ + line), stride_,
                          std::min(kLines, lines_ - line), std::min(kTileDepth, depth_ - k)};
        const int64_t end = std::min(kLines, unit_ + units);
        units -= end - unit_;
        for (; unit_ < end; ++unit_) {
          const Split<kParts> split = split_piece<kParts, kAlong>(piece, unit_, factor);
          for (int p = 0; p < kParts; ++p)
            _mm512_store_si512(to + 2 * p * kTile + unit_ * kTileDepth, split.part[p]);
        }
      } else {
        turn(reinterpret_cast<float*>(to + 2 * (unit_ - kLines) * kTile));
        ++unit_;
        --units;
      }
      if (unit_ == (kTurn ? kLines + kParts : kLines)) {
        unit_ = 0;
        ++piece_;
      }
    }
  }
  static void turn(float* tile) {
    Vector<float> square[kLines];
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLines; ++i) square[i] = load(tile + i * kLines);
    transpose_square<float>(square);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLines; ++i) store(tile + i * kLines, square[i]);
  }

  const float* from_ = nullptr;
  int64_t stride_ = 0;
  bool along_ = false, turn_ = false;
  int64_t lines_ = 0, depth_ = 0;
  float alpha_ = 1.0f;
  uint16_t* to_ = nullptr;
  int64_t left_ = 0, piece_ = 0, unit_ = 0;
};

// Some units of a packing, spread evenly over the steps of an inner kernel: the vector units pack while the
// matrix units, which need few instructions, multiply.
template <int kParts>
class Chore {
 public:
  Chore(StripPacking<kParts>& packing, int64_t units, int64_t steps)
      : packing_(packing), units_(units), rate_((units << kFraction) / steps + 1) {}
  [[gnu::always_inline]] void step() {
    if (units_ == 0) return;
    due_ += rate_;
    const int64_t units = std::min(units_, due_ >> kFraction);
    due_ &= (int64_t{1} << kFraction) - 1;
    units_ -= units;
    packing_.pack(units);
  }

 private:
  static constexpr int kFraction = 16;  // bits of the fixed-point numbers
  StripPacking<kParts>& packing_;
  int64_t units_, rate_, due_ = 0;
};

}  // namespace polar::cpu

// Attention, forward: one pass over the keys with a running maximum and sum (online softmax; Milakov and
// Gimelshein 2018, Dao et al. 2022), so that scores exist only one tile at a time.
#include <cmath>

#include "backend/cpu/attention_mask.h"
#include "backend/cpu/attention_rows.h"
#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace attention {

void check_matrix(const MatrixView& x, DType dtype, int64_t rows, int64_t cols, const char* what) {
  require(x.data != nullptr && x.dtype == dtype && x.rows == rows && x.cols == cols && x.stride >= cols,
          what);
}

void check_inputs(const AttentionShape& s, const MatrixView& q, const MatrixView& k, const MatrixView& v,
                  const Tensor& document_starts) {
  require(s.heads_kv > 0 && s.heads_q % s.heads_kv == 0, "attention: heads_q is a multiple of heads_kv");
  require(s.head_dim > 0 && s.head_dim <= kMaxHeadDim, "attention: head_dim is between 1 and 256");
  require(s.query_time > 0 && s.query_time <= s.key_time, "attention: 0 < query_time <= key_time");
  check_matrix(q, q.dtype, s.batch * s.query_time, s.heads_q * s.head_dim, "attention: q (B*Tq, Hq*D)");
  check_matrix(k, q.dtype, s.batch * s.key_time, s.heads_kv * s.head_dim, "attention: k (B*Tk, Hkv*D)");
  check_matrix(v, q.dtype, s.batch * s.key_time, s.heads_kv * s.head_dim, "attention: v (B*Tk, Hkv*D)");
  require(!document_starts ||
              (document_starts.dtype == DType::i32 && document_starts.count() == s.batch * s.query_time),
          "attention: document_starts i32 (B, query_time)");
}

namespace {

constexpr double kLog2E = 1.44269504088896340736, kLn2 = 0.69314718055994530942;

// What one query tile keeps while it walks along the keys. Scores are in units of log2.
template <class T, int kHeadDim>
struct ForwardScratch {
  static constexpr int64_t kWidth = kScratchWidth<kHeadDim>;
  alignas(kVectorBytes) T maximum[kTileQueries];
  alignas(kVectorBytes) T sum[kTileQueries];
  alignas(kVectorBytes) T rescale[kTileQueries];
  alignas(kVectorBytes) T query_transposed[kWidth * kTileQueries];  // (D, queries), scaled
  alignas(kVectorBytes) T scores[kTileKeys * kTileQueries];         // (keys, queries), then probabilities
  alignas(kVectorBytes) T output[kTileQueries * kWidth];            // (queries, D), not yet normalised
  alignas(kVectorBytes) T key_rows[kHeadDim > 0 ? 1 : kTileKeys* kWidth];
  alignas(kVectorBytes) T value_rows[kHeadDim > 0 ? 1 : kTileKeys* kWidth];
};

// Turns the scores of one tile into 2^(score - maximum) under the new maximum, and brings `sum` to it.
// `rescale` is what everything gathered under the old maximum has to be multiplied with.
template <class T>
void online_softmax(ActiveQueries active, int64_t keys, Panel<T> scores, T* maximum, T* sum, T* rescale) {
  for (int64_t column = active.begin; column < active.end; column += Simd<T>::kLanes) {
    T* const at = scores.data + column;
    const Vector<T> before = load(maximum + column);
    Vector<T> greatest = before;
    for (int64_t j = 0; j < keys; ++j) {
      const Vector<T> score = load(at + j * scores.stride);
      greatest = score > greatest ? score : greatest;
    }
    const Vector<T> factor = exp2<T>(before - greatest);
    Vector<T> total = load(sum + column) * factor;
    for (int64_t j = 0; j < keys; ++j) {
      const Vector<T> probability = exp2<T>(load(at + j * scores.stride) - greatest);
      total += probability;
      store(at + j * scores.stride, probability);
    }
    store(maximum + column, greatest);
    store(sum + column, total);
    store(rescale + column, factor);
  }
}

template <class T>
void rescale_rows(ActiveQueries active, int64_t queries, int64_t width, const T* rescale, Panel<T> output) {
  for (int64_t i = active.begin; i < std::min(active.end, queries); ++i) {
    if (rescale[i] == T(1)) continue;
    for (int64_t d = 0; d < width; d += Simd<T>::kLanes)
      store(output.row(i) + d, load(output.row(i) + d) * rescale[i]);
  }
}

template <class T, int kHeadDim>
void forward_keys(const AttentionForward& args, const QueryTile<T>& tile, int64_t batch, int64_t head,
                  ForwardScratch<T, kHeadDim>& scratch) {
  const AttentionShape& s = args.shape;
  const int64_t head_dim = kHeadDim > 0 ? kHeadDim : s.head_dim;
  const int64_t width = padded_width<T, kHeadDim>(head_dim), head_kv = head / (s.heads_q / s.heads_kv);
  const Panel<T> queries{scratch.query_transposed, kTileQueries}, scores{scratch.scores, kTileQueries};
  const Panel<T> output{scratch.output, width};
  for (int64_t key = tile.first_key; key < tile.end_key; key += kTileKeys) {
    const int64_t keys = std::min(kTileKeys, tile.end_key - key);
    const ActiveQueries active = active_queries(tile, key, keys);
    const T* key_row = head_row<T>(args.k, s.key_time, batch, key, head_kv, s.head_dim);
    const T* value_row = head_row<T>(args.v, s.key_time, batch, key, head_kv, s.head_dim);
    const Panel<const T> values =
        padded_rows<T, kHeadDim>(value_row, args.v.stride, keys, head_dim, {scratch.value_rows, width});
    multiply<T, Product::set>(keys, active.end - active.begin, head_dim, {key_row, args.k.stride},
                              {queries.data + active.begin, queries.stride},
                              {scores.data + active.begin, scores.stride});
    if (active.partial) mask_scores(tile, active, key, keys, scores);
    online_softmax(active, keys, scores, scratch.maximum, scratch.sum, scratch.rescale);
    rescale_rows(active, tile.count, width, scratch.rescale, output);
    multiply<T, Product::add_transposed>(tile.count - active.begin, width, keys,
                                         {scores.data + active.begin, scores.stride}, values,
                                         {output.row(active.begin), output.stride});
  }
}

template <class T, int kHeadDim>
void forward_tile(const AttentionForward& args, int64_t batch, int64_t head, int64_t first) {
  const AttentionShape& s = args.shape;
  const int64_t head_dim = kHeadDim > 0 ? kHeadDim : s.head_dim;
  const int64_t width = padded_width<T, kHeadDim>(head_dim);
  const QueryTile<T> tile = make_query_tile<T>(s, args.document_starts, batch, first);
  ForwardScratch<T, kHeadDim> scratch;
  std::fill_n(scratch.maximum, kTileQueries, kMasked<T>);
  std::fill_n(scratch.sum, kTileQueries, T(0));
  std::fill_n(scratch.output, tile.count * width, T(0));
  pack_transposed<T>({head_row<T>(args.q, s.query_time, batch, first, head, s.head_dim), args.q.stride},
                     tile.count, head_dim, static_cast<T>(s.scale * kLog2E),
                     {scratch.query_transposed, kTileQueries});
  forward_keys<T, kHeadDim>(args, tile, batch, head, scratch);
  T* lse = args.lse ? args.lse.as<T>() + (batch * s.heads_q + head) * s.query_time + first : nullptr;
  for (int64_t i = 0; i < tile.count; ++i) {
    T* to = head_row<T>(args.output, s.query_time, batch, first + i, head, s.head_dim);
    const T inverse = T(1) / scratch.sum[i];
    for (int64_t d = 0; d < head_dim; ++d) to[d] = scratch.output[i * width + d] * inverse;
    if (lse != nullptr)
      lse[i] = static_cast<T>((double{scratch.maximum[i]} + std::log2(double{scratch.sum[i]})) * kLn2);
  }
}

template <class T, int kHeadDim>
void forward_all(const AttentionForward& args) {
  const AttentionShape& s = args.shape;
  const int64_t tiles = divide_up(s.query_time, kTileQueries);
  parallel_for(s.batch * s.heads_q * tiles, [&](int64_t task) {
    const int64_t tile = tiles - 1 - task % tiles;  // the last tile sees the most keys: start with it
    const int64_t head = task / tiles % s.heads_q, batch = task / tiles / s.heads_q;
    forward_tile<T, kHeadDim>(args, batch, head, tile * kTileQueries);
  });
}

}  // namespace
}  // namespace attention

void attention_forward(const AttentionForward& args) {
  using namespace attention;
  const AttentionShape& s = args.shape;
  check_inputs(s, args.q, args.k, args.v, args.document_starts);
  check_matrix(args.output, args.q.dtype, s.batch * s.query_time, s.heads_q * s.head_dim,
               "attention: output (B*Tq, Hq*D)");
  require(
      !args.lse || (args.lse.dtype == args.q.dtype && args.lse.count() == s.batch * s.heads_q * s.query_time),
      "attention: lse (B, Hq, query_time)");
  dispatch(args.q.dtype, "attention_forward", [&](auto zero) {
    dispatch_head_dim(s.head_dim, [&](auto head_dim) { forward_all<decltype(zero), head_dim()>(args); });
  });
}

}  // namespace polar::cpu

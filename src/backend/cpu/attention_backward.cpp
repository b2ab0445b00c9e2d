// Attention, backward: probabilities are recomputed tile by tile from the stored log sum exp (Dao et al.
// 2022). With P = softmax, dP = dO V^T and delta = rowsum(dO * O):
//   dS = scale P (dP - delta),   dV = P^T dO,   dK = dS^T Q,   dQ = dS K.
//
// A task is one (batch, q head), or one (batch, kv head) with all its q heads one after the other. Where
// there are few kv heads every q head gets its own task, and all but the first of a group write dk and dv
// into the workspace, to be added in the order of the heads. Which of both it is depends on the shape alone.
#include "backend/cpu/attention_mask.h"
#include "backend/cpu/attention_rows.h"
#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/lanes.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace attention {
namespace {

constexpr double kLog2E = 1.44269504088896340736;
constexpr int64_t kEnoughTasks = 32;  // keep 16 cores busy

bool split_groups(const AttentionShape& s) {
  return s.heads_q > s.heads_kv && s.batch * s.heads_kv < kEnoughTasks;
}

template <class T, int kHeadDim>
struct BackwardScratch {
  static constexpr int64_t kWidth = kScratchWidth<kHeadDim>;
  static constexpr bool kCopies = kHeadDim == 0;
  alignas(kVectorBytes) T lse[kTileQueries];                          // in units of log2
  alignas(kVectorBytes) T delta[kTileQueries];                        // rowsum(dO * O)
  alignas(kVectorBytes) T query_transposed[kWidth * kTileQueries];    // (D, queries), scaled
  alignas(kVectorBytes) T doutput_transposed[kWidth * kTileQueries];  // (D, queries)
  alignas(kVectorBytes) T probabilities[kTileKeys * kTileQueries];    // (keys, queries)
  alignas(kVectorBytes) T dscores[kTileKeys * kTileQueries];          // (keys, queries)
  alignas(kVectorBytes) T dquery[kTileQueries * kWidth];
  alignas(kVectorBytes) T query_rows[kCopies ? kTileQueries * kWidth : 1];
  alignas(kVectorBytes) T doutput_rows[kCopies ? kTileQueries * kWidth : 1];
  alignas(kVectorBytes) T key_rows[kCopies ? kTileKeys * kWidth : 1];
  alignas(kVectorBytes) T dkey_rows[kCopies ? kTileKeys * kWidth : 1];
};

// One (batch, q head) and where its dk and dv go (row = key).
template <class T>
struct HeadTask {
  int64_t batch, head, head_kv;
  Panel<T> dk, dv;
};

// probabilities = 2^(score - lse), dscores = scale * probabilities * (dP - delta); both in place.
template <class T>
void softmax_backward(ActiveQueries active, int64_t keys, T scale, const T* lse, const T* delta,
                      Panel<T> probabilities, Panel<T> dscores) {
  for (int64_t column = active.begin; column < active.end; column += Simd<T>::kLanes) {
    const Vector<T> log_sum = load(lse + column), mean = load(delta + column);
    for (int64_t j = 0; j < keys; ++j) {
      const Vector<T> p = exp2<T>(load(probabilities.row(j) + column) - log_sum);
      store(probabilities.row(j) + column, p);
      store(dscores.row(j) + column, scale * p * (load(dscores.row(j) + column) - mean));
    }
  }
}

// to (rows, head_dim) += op(a) b. Where rows are not whole vectors the product takes a detour over `buffer`.
template <class T, int kHeadDim>
void add_product(int64_t rows, int64_t head_dim, int64_t width, int64_t depth, Panel<const T> a,
                 Panel<const T> b, Panel<T> to, T* buffer) {
  if constexpr (kHeadDim > 0) {
    multiply<T, Product::add>(rows, width, depth, a, b, to);
  } else {
    multiply<T, Product::set>(rows, width, depth, a, b, {buffer, width});
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t d = 0; d < head_dim; ++d) to.row(i)[d] += buffer[i * width + d];
  }
}

template <class T, int kHeadDim>
void backward_keys(const AttentionBackward& args, const HeadTask<T>& task, const QueryTile<T>& tile,
                   BackwardScratch<T, kHeadDim>& scratch, Panel<const T> queries, Panel<const T> doutputs) {
  const AttentionShape& s = args.shape;
  const int64_t head_dim = kHeadDim > 0 ? kHeadDim : s.head_dim;
  const int64_t width = padded_width<T, kHeadDim>(head_dim);
  for (int64_t key = tile.first_key; key < tile.end_key; key += kTileKeys) {
    const int64_t keys = std::min(kTileKeys, tile.end_key - key);
    const ActiveQueries active = active_queries(tile, key, keys);
    const int64_t begin = active.begin, columns = active.end - begin, count = tile.count - begin;
    const T* key_row = head_row<T>(args.k, s.key_time, task.batch, key, task.head_kv, s.head_dim);
    const T* value_row = head_row<T>(args.v, s.key_time, task.batch, key, task.head_kv, s.head_dim);
    const Panel<T> p{scratch.probabilities + begin, kTileQueries}, ds{scratch.dscores + begin, kTileQueries};
    multiply<T, Product::set>(keys, columns, head_dim, {key_row, args.k.stride},
                              {scratch.query_transposed + begin, kTileQueries}, p);
    multiply<T, Product::set>(keys, columns, head_dim, {value_row, args.v.stride},
                              {scratch.doutput_transposed + begin, kTileQueries}, ds);
    if (active.partial) mask_scores<T>(tile, active, key, keys, {scratch.probabilities, kTileQueries});
    softmax_backward<T>(active, keys, static_cast<T>(s.scale), scratch.lse, scratch.delta,
                        {scratch.probabilities, kTileQueries}, {scratch.dscores, kTileQueries});
    add_product<T, kHeadDim>(keys, head_dim, width, count, p, {doutputs.row(begin), doutputs.stride},
                             {task.dv.row(key), task.dv.stride}, scratch.dkey_rows);
    add_product<T, kHeadDim>(keys, head_dim, width, count, ds, {queries.row(begin), queries.stride},
                             {task.dk.row(key), task.dk.stride}, scratch.dkey_rows);
    const Panel<const T> rows =
        padded_rows<T, kHeadDim>(key_row, args.k.stride, keys, head_dim, {scratch.key_rows, width});
    multiply<T, Product::add_transposed>(count, width, keys, ds, rows,
                                         {scratch.dquery + begin * width, width});
  }
}

template <class T, int kHeadDim>
void backward_tile(const AttentionBackward& args, const HeadTask<T>& task, int64_t first) {
  const AttentionShape& s = args.shape;
  const int64_t head_dim = kHeadDim > 0 ? kHeadDim : s.head_dim, time = s.query_time;
  const int64_t width = padded_width<T, kHeadDim>(head_dim);
  const QueryTile<T> tile = make_query_tile<T>(s, args.document_starts, task.batch, first);
  BackwardScratch<T, kHeadDim> scratch;
  const auto rows_of = [&](const MatrixView& x) -> Panel<T> {
    return {head_row<T>(x, time, task.batch, first, task.head, head_dim), x.stride};
  };
  const Panel<T> q = rows_of(args.q), output = rows_of(args.output), doutput = rows_of(args.doutput);
  pack_transposed<T>(q, tile.count, head_dim, static_cast<T>(s.scale * kLog2E),
                     {scratch.query_transposed, kTileQueries});
  pack_transposed<T>(doutput, tile.count, head_dim, T(1), {scratch.doutput_transposed, kTileQueries});
  const T* lse = args.lse.as<T>() + (task.batch * s.heads_q + task.head) * time + first;
  for (int64_t i = 0; i < tile.lanes; ++i) {
    const bool valid = i < tile.count;
    scratch.lse[i] = valid ? static_cast<T>(double{lse[i]} * kLog2E) : T(0);
    const auto product = [&](int64_t d) { return doutput.row(i)[d] * output.row(i)[d]; };
    scratch.delta[i] = valid ? lane_sum<T>(head_dim, product) : T(0);
  }
  std::fill_n(scratch.dquery, tile.count * width, T(0));
  backward_keys<T, kHeadDim>(
      args, task, tile, scratch,
      padded_rows<T, kHeadDim>(q.data, q.stride, tile.count, head_dim, {scratch.query_rows, width}),
      padded_rows<T, kHeadDim>(doutput.data, doutput.stride, tile.count, head_dim,
                               {scratch.doutput_rows, width}));
  const Panel<T> dq = rows_of(args.dq);
  for (int64_t i = 0; i < tile.count; ++i) std::copy_n(scratch.dquery + i * width, head_dim, dq.row(i));
}

template <class T, int kHeadDim>
void backward_head(const AttentionBackward& args, const HeadTask<T>& task) {
  for (int64_t first = 0; first < args.shape.query_time; first += kTileQueries)
    backward_tile<T, kHeadDim>(args, task, first);
}

// dk and dv of a (batch, kv head): rows are keys.
template <class T>
Panel<T> gradient_rows(const AttentionShape& s, const MatrixView& x, int64_t batch, int64_t head_kv) {
  return {head_row<T>(x, s.key_time, batch, 0, head_kv, s.head_dim), x.stride};
}

template <class T>
void clear(const AttentionShape& s, Panel<T> x) {
  for (int64_t t = 0; t < s.key_time; ++t) std::fill_n(x.row(t), s.head_dim, T(0));
}

// dk (dv follows) of a (batch, q head) that is not the first of its group.
template <class T>
Panel<T> partial_rows(const AttentionBackward& args, int64_t batch, int64_t head_kv, int64_t member) {
  const AttentionShape& s = args.shape;
  const int64_t others = s.heads_q / s.heads_kv - 1;
  const int64_t index = (batch * s.heads_kv + head_kv) * others + member - 1;
  return {args.workspace.as<T>() + index * 2 * s.key_time * s.head_dim, s.head_dim};
}

template <class T, int kHeadDim>
void backward_by_query_head(const AttentionBackward& args) {
  const AttentionShape& s = args.shape;
  const int64_t group = s.heads_q / s.heads_kv;
  parallel_for(s.batch * s.heads_q, [&](int64_t index) {
    const int64_t batch = index / s.heads_q, head = index % s.heads_q;
    HeadTask<T> task{batch, head, head / group, {}, {}};
    if (head % group == 0) {
      task.dk = gradient_rows<T>(s, args.dk, batch, task.head_kv);
      task.dv = gradient_rows<T>(s, args.dv, batch, task.head_kv);
    } else {
      task.dk = partial_rows<T>(args, batch, task.head_kv, head % group);
      task.dv = {task.dk.row(s.key_time), s.head_dim};
    }
    clear(s, task.dk);
    clear(s, task.dv);
    backward_head<T, kHeadDim>(args, task);
  });
}

// Adds the partial dk and dv of a group's other heads, in their order.
template <class T>
void add_partials(const AttentionBackward& args) {
  const AttentionShape& s = args.shape;
  parallel_for(s.batch * s.heads_kv, [&](int64_t index) {
    const int64_t batch = index / s.heads_kv, head_kv = index % s.heads_kv;
    const Panel<T> dk = gradient_rows<T>(s, args.dk, batch, head_kv);
    const Panel<T> dv = gradient_rows<T>(s, args.dv, batch, head_kv);
    for (int64_t member = 1; member < s.heads_q / s.heads_kv; ++member) {
      const Panel<T> partial = partial_rows<T>(args, batch, head_kv, member);
      for (int64_t t = 0; t < s.key_time; ++t)
        for (int64_t d = 0; d < s.head_dim; ++d) {
          dk.row(t)[d] += partial.row(t)[d];
          dv.row(t)[d] += partial.row(s.key_time + t)[d];
        }
    }
  });
}

template <class T, int kHeadDim>
void backward_by_kv_head(const AttentionBackward& args) {
  const AttentionShape& s = args.shape;
  const int64_t group = s.heads_q / s.heads_kv;
  parallel_for(s.batch * s.heads_kv, [&](int64_t index) {
    const int64_t batch = index / s.heads_kv, head_kv = index % s.heads_kv;
    HeadTask<T> task{batch, 0, head_kv, gradient_rows<T>(s, args.dk, batch, head_kv),
                     gradient_rows<T>(s, args.dv, batch, head_kv)};
    clear(s, task.dk);
    clear(s, task.dv);
    for (task.head = head_kv * group; task.head < (head_kv + 1) * group; ++task.head)
      backward_head<T, kHeadDim>(args, task);
  });
}

void check_backward(const AttentionBackward& args) {
  const AttentionShape& s = args.shape;
  check_inputs(s, args.q, args.k, args.v, args.document_starts);
  require(s.query_time == s.key_time, "attention_backward: query_time = key_time");
  const int64_t rows = s.batch * s.query_time, q_cols = s.heads_q * s.head_dim;
  const int64_t kv_cols = s.heads_kv * s.head_dim;
  check_matrix(args.output, args.q.dtype, rows, q_cols, "attention_backward: output (B*T, Hq*D)");
  check_matrix(args.doutput, args.q.dtype, rows, q_cols, "attention_backward: doutput (B*T, Hq*D)");
  check_matrix(args.dq, args.q.dtype, rows, q_cols, "attention_backward: dq (B*T, Hq*D)");
  check_matrix(args.dk, args.q.dtype, rows, kv_cols, "attention_backward: dk (B*T, Hkv*D)");
  check_matrix(args.dv, args.q.dtype, rows, kv_cols, "attention_backward: dv (B*T, Hkv*D)");
  require(args.lse && args.lse.dtype == args.q.dtype && args.lse.count() == rows * s.heads_q,
          "attention_backward: lse (B, Hq, T)");
  require(args.workspace.bytes() >= attention_workspace(s, args.q.dtype),
          "attention_backward: attention_workspace(shape) bytes of workspace");
}

}  // namespace
}  // namespace attention

size_t attention_workspace(const AttentionShape& s, DType dtype) {
  if (!attention::split_groups(s) || s.query_time != s.key_time) return 0;
  return static_cast<size_t>(2 * s.batch * (s.heads_q - s.heads_kv) * s.key_time * s.head_dim) *
         size_of(dtype);
}

void attention_backward(const AttentionBackward& args) {
  using namespace attention;
  check_backward(args);
  const bool split = split_groups(args.shape);
  dispatch(args.q.dtype, "attention_backward", [&](auto zero) {
    using T = decltype(zero);
    dispatch_head_dim(args.shape.head_dim, [&](auto head_dim) {
      split ? backward_by_query_head<T, head_dim()>(args) : backward_by_kv_head<T, head_dim()>(args);
    });
    if (split) add_partials<T>(args);
  });
}

}  // namespace polar::cpu

#include "backend/cuda/attention_engine.h"

#include "base/error.h"

namespace polar::cuda {
namespace {

template <class Arguments>
AttentionCase common_case(const Arguments& args) {
  const AttentionShape& s = args.shape;
  return {.dtype = args.q.dtype,
          .batch = s.batch,
          .query_time = s.query_time,
          .key_time = s.key_time,
          .heads_q = s.heads_q,
          .heads_kv = s.heads_kv,
          .head_dim = s.head_dim,
          .window = s.window < s.key_time ? s.window : 0,  // a window over everything is none
          .scale = s.scale,
          .documents = static_cast<bool>(args.document_starts),
          .lse = static_cast<bool>(args.lse),
          .q_stride = args.q.stride,
          .k_stride = args.k.stride,
          .v_stride = args.v.stride,
          .output_stride = args.output.stride};
}

constexpr int64_t round_up(int64_t x, int64_t unit) {
  return (x + unit - 1) / unit * unit;
}

}  // namespace

AttentionCase case_of(const AttentionForward& args) {
  return common_case(args);
}

AttentionCase case_of(const AttentionBackward& args) {
  AttentionCase c = common_case(args);
  c.backward = true;
  c.doutput_stride = args.doutput.stride;
  c.dq_stride = args.dq.stride;
  c.dk_stride = args.dk.stride;
  c.dv_stride = args.dv.stride;
  return c;
}

std::string AttentionCase::text() const {
  const std::string keys = query_time == key_time ? "" : fmt::format(" of {} keys", key_time);
  return fmt::format("attention {}, B{} T{}{} Hq{} Hkv{} D{}{}{}", backward ? "backward" : "forward", batch,
                     query_time, keys, heads_q, heads_kv, head_dim,
                     window > 0 ? fmt::format(" window {}", window) : "", documents ? " documents" : "");
}

// dS in bf16, its rows and columns in whole tiles; dk and dv of every query head before those of a group are
// added, up to f32; dO * O summed over a row; and what a plan keeps for itself. Planned for A100, H100 and
// B200, cuDNN 9.19 needs between a third and nine tenths of it.
size_t cudnn_attention_workspace(const AttentionShape& s, DType dtype) {
  if (dtype != DType::bf16 || s.query_time != s.key_time) return 0;
  const int64_t heads = s.batch * s.heads_q, time = round_up(s.query_time, 128);
  const int64_t row_bytes = 2 * time + 2 * 4 * s.head_dim + 4;
  const auto bytes = static_cast<size_t>(heads * time * row_bytes) + (size_t{1} << 20);
  return bytes <= kMostCudnnWorkspace ? bytes : 0;
}

}  // namespace polar::cuda

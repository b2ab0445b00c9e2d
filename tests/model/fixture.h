// A bound model with inputs, for tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <vector>

#include "base/random.h"
#include "model/model.h"
#include "ops/memory.h"
#include "ops/ops.h"

namespace polar::test {

class BoundModel {
 public:
  BoundModel(const ModelConfig& config, ModelUse use, int threads = 2)
      : ops(make_ops({"cpu", threads})), use_(use), model(config, use) {
    model.plan(plan_, *ops);
    const int64_t rows = use.micro_sequences * use.time;
    ids_ = plan_.add("input", "ids", DType::i32, {rows});
    targets_ = plan_.add("input", "targets", DType::i32, {rows});
    starts_ = plan_.add("input", "starts", DType::i32, {rows});
    loss_ = plan_.add("control", "loss", DType::f64, {1});
    memory_.emplace(plan_, *ops, MemoryKind::device);
    model.bind(*ops, memory_->arena());
    ops->fill(loss(), 0.0);
  }

  ModelBatch batch(int64_t sequences, int64_t time, const std::vector<int32_t>& ids,
                   const std::vector<int32_t>& targets, const std::vector<int32_t>& starts = {}) {
    const auto put = [&](BufferId id, const std::vector<int32_t>& values, Shape shape) {
      const Tensor t = (*memory_)[id].slice(0, shape);
      ops->upload(t, values.data());
      return t;
    };
    ModelBatch b;
    b.batch = sequences;
    b.time = time;
    b.ids = put(ids_, ids, {sequences * time});
    if (!targets.empty()) b.targets = put(targets_, targets, {sequences * time});
    if (!starts.empty()) b.document_starts = put(starts_, starts, {sequences, time});
    return b;
  }

  Tensor loss() { return (*memory_)[loss_]; }
  double loss_value() {
    double value = 0.0;
    ops->download(&value, loss());
    return value;
  }
  // Logits of all rows, (rows, V), before any soft-cap.
  template <class T>
  std::vector<T> logits(const ModelBatch& b) {
    const MatrixView hidden = model.forward_hidden(b);
    std::vector<T> out(static_cast<size_t>(hidden.rows * model.config().vocab_size));
    ops->gemm(Transpose::no, Transpose::yes, 1.0, hidden, model.head(), 0.0,
              MatrixView(out.data(), DTypeOf<T>::value, hidden.rows, model.config().vocab_size,
                         model.config().vocab_size));
    return out;
  }
  template <class T>
  std::vector<T> values(const Tensor& t) {
    std::vector<T> out(static_cast<size_t>(t.count()));
    ops->download(out.data(), t);
    return out;
  }
  size_t planned_bytes() const { return plan_.total_bytes(); }

  std::unique_ptr<Ops> ops;

 private:
  ModelUse use_;

 public:
  Model model;

 private:
  MemoryPlan plan_;
  BufferId ids_, targets_, starts_, loss_;
  std::optional<PlannedMemory> memory_;
};

// max |a - b| / max |b|: the error of a tensor relative to its own size.
template <class A, class B>
double relative_error(const std::vector<A>& a, const std::vector<B>& b) {
  if (a.size() != b.size()) return INFINITY;
  double difference = 0.0, size = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(static_cast<double>(a[i]))) return INFINITY;
    difference = std::max(difference, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
    size = std::max(size, std::abs(static_cast<double>(b[i])));
  }
  return difference / std::max(size, 1e-30);
}

// A model small enough for numeric gradients, with every option that can be combined.
inline ModelConfig tiny_config(Architecture architecture) {
  ModelConfig c;
  c.architecture = architecture;
  c.vocab_size = 37;
  c.hidden_size = 24;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = architecture == Architecture::qwen3 ? 10 : 0;
  c.intermediate_size = 28;
  c.rope_theta = 1.0e4;
  c.tie_word_embeddings = architecture == Architecture::qwen2;
  c.initializer_range = 0.2;
  return c;
}

inline std::vector<int32_t> random_ids(int64_t count, int64_t vocabulary, uint64_t stream) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(random_bits(7, stream, i) % static_cast<uint64_t>(vocabulary));
  return ids;
}

}  // namespace polar::test

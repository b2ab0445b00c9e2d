#include "plan/step_cost.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "model/registry.h"
#include "optim/oracle.h"
#include "optim/routing.h"

namespace polar {
namespace {

// Kernels of a layer, as model_layers.cpp queues them (reductions of a kernel's own counted with it).
constexpr double kForwardLaunches = 10.0;   // 4 products, 2 norms, rope of q and of k, attention, swiglu
constexpr double kBackwardLaunches = 20.0;  // 8 products, 2 norms of 2, 2 ropes of 2, attention of 3, swiglu
constexpr double kMlpLaunches = 3.0;        // norm, gate and up, swiglu: recompute mlp
constexpr double kLayerLaunches = 9.0;      // all but the down projection: recompute layer
constexpr double kHeadLaunches = 4.0;       // of a chunk: 3 products, softmax
constexpr double kHeadChunk = 1024.0;       // rows of a chunk of the logits
constexpr double kStepLaunches = 3.0;       // a step of an oracle: gram, polynomial, apply
constexpr double kUpdateLaunches = 4.0;     // momentum, normalize, inner product, update

// Bytes an element of a matrix: momentum (gradient read, momentum read and written), the matrix written and
// normalised (3 passes), direction read, parameter read and written; the matrices are fp32 or bf16.
double matrix_bytes(double polar_element) {
  return 12.0 + 5.0 * polar_element + 8.0;
}
// The same of a rule without products: gradient read, momentum read and written, what the oracle sees
// written, its sign taken, <sign, M> of it and a copy; direction read, parameter read and written.
double vector_bytes(const GroupConfig& group) {
  return 4.0 + (group.momentum.kind == MomentumKind::none ? 0.0 : 8.0) + 4.0 +
         (group.oracle.kind == OracleKind::sign ? 8.0 : 0.0) +
         (group.scale.kind == ScaleKind::nuclear ? 16.0 : 0.0) + 12.0;
}
double vector_launches(const GroupConfig& group) {  // momentum, update, sign; copy and inner product
  return 2.0 + (group.oracle.kind == OracleKind::sign ? 1.0 : 0.0) +
         (group.scale.kind == ScaleKind::nuclear ? 2.0 : 0.0);
}
constexpr double kAdamBytes = 28.0;  // gradient read; both moments and the parameter read and written

class ModelCosts {
 public:
  ModelCosts(const ModelConfig& model, const ModelBatchSize& batch, const DeviceRates& rates)
      : model_(model), batch_(batch), rates_(rates) {
    rows_ = static_cast<double>(batch.sequences * batch.time);
    e_ = static_cast<double>(batch.element);
    width_ = static_cast<double>(model.hidden_size);
    inner_ = static_cast<double>(model.intermediate_size);
    const auto d = static_cast<double>(head_dim(model));
    q_ = d * static_cast<double>(model.num_attention_heads);
    kv_ = d * static_cast<double>(model.num_key_value_heads);
  }

  ModelCost all() const {
    ModelCost out;
    out.embedding.memory = 2.0 * e_ * rows_ * width_ / rates_.memory;
    out.embedding.launches = 2.0 * rates_.launch;  // with the first norm
    out.layer = attention_part();
    out.layer += mlp_part();
    out.layer += forward(width_, inner_);  // down
    out.layer.launches = kForwardLaunches * rates_.launch;
    out.head = head();
    out.layer_backward = layer_backward();
    out.layer_backward += recomputed();
    out.embedding_backward.memory = (e_ + 8.0) * rows_ * width_ / rates_.memory;
    out.embedding_backward.launches = 3.0 * rates_.launch;
    return out;
  }

 private:
  // y (rows, out) = x (rows, in) w^T
  Cost forward(double out, double in) const { return product(rows_, out, in, 0.0); }
  // dx = dy w; dw += dy^T x, which is fp32 and read and written.
  Cost backward(double out, double in) const {
    Cost cost = product(rows_, in, out, 0.0);
    cost += product(out, in, rows_, 8.0);
    return cost;
  }
  // c (m, n) = a (m, k) b (k, n); `sum_bytes`: an element of c, where that is no plain result.
  Cost product(double m, double n, double k, double sum_bytes) const {
    const double bytes = e_ * (m * k + k * n) + (sum_bytes > 0.0 ? sum_bytes : e_) * m * n;
    Cost cost;
    cost.gemm = std::max(2.0 * m * n * k / rates_.gemm, bytes / rates_.memory);
    return cost;
  }
  // Pairs of a query and a key that it sees, times the width of the queries.
  double attention_pairs() const {
    const auto time = static_cast<double>(batch_.time);
    const auto window =
        model_.sliding_window > 0 ? std::min(time, static_cast<double>(model_.sliding_window)) : time;
    const double pairs = time * window - window * (window - 1.0) / 2.0;
    return pairs * static_cast<double>(batch_.sequences) * q_;
  }
  // Everything up to the residual stream between the two halves of a layer, both norms included.
  Cost attention_part() const {
    Cost cost = forward(q_ + 2.0 * kv_, width_);
    cost += forward(width_, q_);
    cost.attention = 4.0 * attention_pairs() / rates_.attention;
    cost.memory = e_ * rows_ * (8.0 * width_ + 2.0 * (q_ + kv_)) / rates_.memory;
    return cost;
  }
  Cost mlp_part() const {  // gate, up and swiglu
    Cost cost = forward(2.0 * inner_, width_);
    cost.memory = 3.0 * e_ * rows_ * inner_ / rates_.memory;
    return cost;
  }
  Cost layer_backward() const {
    Cost cost = backward(width_, inner_);
    cost += backward(2.0 * inner_, width_);
    cost += backward(width_, q_);
    cost += backward(q_ + 2.0 * kv_, width_);
    cost.attention = 14.0 * attention_pairs() / rates_.attention;
    cost.memory = e_ * rows_ * (8.0 * width_ + 3.0 * (q_ + kv_) + 5.0 * inner_) / rates_.memory;
    cost.launches = kBackwardLaunches * rates_.launch;
    return cost;
  }
  Cost recomputed() const {
    Cost cost;
    if (batch_.recompute == Recompute::none) return cost;
    if (batch_.recompute == Recompute::layer) cost = attention_part();
    cost += mlp_part();
    if (batch_.recompute == Recompute::mlp) cost.memory += 2.0 * e_ * rows_ * width_ / rates_.memory;
    cost.launches = (batch_.recompute == Recompute::mlp ? kMlpLaunches : kLayerLaunches) * rates_.launch;
    return cost;
  }
  Cost head() const {
    const auto vocabulary = static_cast<double>(model_.vocab_size);
    const double chunks = std::max(1.0, rows_ / kHeadChunk), chunk = rows_ / chunks;
    Cost cost = product(chunk, vocabulary, width_, 0.0);
    cost += product(chunk, width_, vocabulary, 0.0);
    cost += product(vocabulary, width_, chunk, 8.0);
    cost = chunks * cost;
    // Logits read twice and their gradients written once; the final norm, forward and backward.
    cost.memory = e_ * rows_ * (3.0 * vocabulary + 8.0 * width_) / rates_.memory;
    cost.launches = (kHeadLaunches * chunks + 4.0) * rates_.launch;
    return cost;
  }

  const ModelConfig& model_;
  const ModelBatchSize& batch_;
  const DeviceRates& rates_;
  double rows_, e_, width_, inner_, q_, kv_;
};

// Adds what a rank does for one of its matrices, `first` of its shape on that rank.
void add_matrix(UpdateCost& cost, const OracleConfig& config, const Oracle& oracle, const Shape& shape,
                bool first, double weight_copy, const DeviceRates& rates) {
  const bool reduced = takes_reduced_products(config);
  cost.polar += oracle.flops(shape[0], shape[1]) / (reduced ? rates.polar_reduced : rates.polar_full);
  cost.element_wise +=
      static_cast<double>(shape.count()) * (matrix_bytes(reduced ? 2.0 : 4.0) + weight_copy) / rates.memory;
  if (first)  // equally shaped matrices go together
    cost.launches +=
        (kStepLaunches * static_cast<double>(oracle.quintics().size()) + kUpdateLaunches) * rates.launch;
}

}  // namespace

DeviceRates rates_of(const Hardware& hardware, int64_t busy, bool bf16) {
  const DeviceHardware& device = hardware.device;
  const auto others = static_cast<double>(hardware.node.devices - 1);
  const double kept =
      others > 0.0 ? 1.0 - (1.0 - hardware.node.busy_share) * static_cast<double>(busy - 1) / others : 1.0;
  const double full = 1e12 * device.tflops_fp32 * kept;
  // The CPU's reduced products are made of several bf16 ones: they are measured against fp32.
  const double reduced = device.backend == "cpu" ? full : 1e12 * device.tflops_bf16 * kept;
  const double model = bf16 ? 1e12 * device.tflops_bf16 * kept : full;
  return {.gemm = model * device.gemm_share,
          .attention = model * device.attention_share,
          .polar_full = full * device.polar_share,
          .polar_reduced = reduced * device.polar_share,
          .memory = 1e9 * device.memory_gb_per_s * device.memory_share * kept,
          .launch = 1e-6 * device.launch_us};
}

Cost& Cost::operator+=(const Cost& other) {
  gemm += other.gemm;
  attention += other.attention;
  memory += other.memory;
  launches += other.launches;
  return *this;
}

Cost operator*(double factor, const Cost& cost) {
  return {factor * cost.gemm, factor * cost.attention, factor * cost.memory, factor * cost.launches};
}

ModelCost model_cost(const ModelConfig& model, const ModelBatchSize& batch, const DeviceRates& rates) {
  return ModelCosts(model, batch, rates).all();
}

std::vector<UpdateCost> update_costs(const OptimizerConfig& optimizer, const ParameterRegistry& registry,
                                     const ShardPlan* shards, int64_t weight_copy, const DeviceRates& rates) {
  const std::vector<int> groups = route_parameters(optimizer.groups, registry);
  std::vector<Oracle> oracles;
  for (const GroupConfig& group : optimizer.groups) {
    oracles.emplace_back(group.oracle);
    if (group.type == GroupType::shampoo || group.type == GroupType::soap)
      fail_usage("a simulation does not know what type {} costs; expected adamw or a matrix type",
                 group.name);
    if (group.type == GroupType::matrix && oracles.back().quintics().empty() &&
        !takes_vectors(group.oracle.kind))
      fail_usage(
          "a simulation does not know what the oracle {} costs; expected newton_schulz, polar_express, sign, "
          "identity",
          oracles.back().text());
  }
  std::vector<UpdateCost> costs(shards ? static_cast<size_t>(shards->world_size()) : 1);
  // A rank's groups and their shapes: equal ones of a group share their launches.
  std::vector<std::set<std::tuple<size_t, int64_t, int64_t>>> met(costs.size());
  const auto copy = static_cast<double>(weight_copy);
  const auto add = [&](int parameter, size_t rank, int64_t count) {
    const auto group = static_cast<size_t>(groups[static_cast<size_t>(parameter)]);
    const Shape& shape = registry[parameter].shape;
    const GroupConfig& config = optimizer.groups[group];
    UpdateCost& cost = costs[rank];
    cost.element_wise += 4.0 * static_cast<double>(count) / rates.memory;  // the norm
    const auto first = [&] { return met[rank].emplace(group, shape[0], shape[1]).second; };
    if (config.type == GroupType::matrix && takes_vectors(config.oracle.kind)) {
      cost.element_wise += (vector_bytes(config) + copy) * static_cast<double>(count) / rates.memory;
      if (first()) cost.launches += vector_launches(config) * rates.launch;
    } else if (config.type == GroupType::matrix) {
      add_matrix(cost, config.oracle, oracles[group], shape, first(), copy, rates);
    } else {
      cost.element_wise += (kAdamBytes + copy) * static_cast<double>(count) / rates.memory;
      cost.launches += rates.launch;
    }
  };
  if (shards) {
    for (const Bucket& bucket : shards->buckets())
      for (const Bucket::Piece& piece : bucket.pieces)
        add(piece.parameter, static_cast<size_t>(piece.owner), piece.count);
  } else {
    for (int i = 0; i < static_cast<int>(registry.parameters().size()); ++i) add(i, 0, registry[i].count());
  }
  return costs;
}

int64_t nodes_of(const Hardware& hardware, int ranks) {
  return (ranks + hardware.node.devices - 1) / hardware.node.devices;
}

namespace {

// The latencies of going once around the ring.
double ring_latency(const Hardware& hardware, int ranks) {
  const int64_t nodes = nodes_of(hardware, ranks);
  const double network = nodes > 1 ? hardware.network->card.latency_us : 0.0;
  return 1e-6 * (static_cast<double>(ranks - nodes) * hardware.node.link.latency_us +
                 static_cast<double>(nodes - 1) * network);
}

// Bytes a second that a ring carries past every rank.
double ring_bandwidth(const Hardware& hardware, int ranks) {
  const int64_t nodes = nodes_of(hardware, ranks);
  const double link = hardware.node.link.bytes_per_s();
  if (nodes == 1) return link;
  if (!hardware.network)
    fail_usage("{}: {} ranks need {} nodes of {}, and the description has no 'network'", hardware.name, ranks,
               nodes, hardware.node.devices);
  const double network = static_cast<double>(hardware.network->cards) * hardware.network->card.bytes_per_s();
  return hardware.node.devices == 1 ? network : std::min(link, network);
}

}  // namespace

double collective_seconds(const Hardware& hardware, int ranks, double part_bytes) {
  if (ranks <= 1) return 0.0;
  const double bandwidth = ring_bandwidth(hardware, ranks);  // first: it says what is missing
  return static_cast<double>(ranks - 1) * part_bytes / bandwidth + 1e-6 * hardware.collective_us +
         ring_latency(hardware, ranks);
}

double scalar_seconds(const Hardware& hardware, int ranks) {
  if (ranks <= 1) return 0.0;
  ring_bandwidth(hardware, ranks);  // says if there is no network
  return 1e-6 * hardware.collective_us + 2.0 * ring_latency(hardware, ranks);
}

}  // namespace polar

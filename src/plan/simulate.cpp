#include "plan/simulate.h"

#include <algorithm>
#include <map>
#include <utility>

#include "base/error.h"
#include "model/registry.h"
#include "optim/optimizer.h"
#include "plan/run_plan.h"

namespace polar {
namespace {

bool computes_in_bf16(const Experiment& e, const Ops& ops) {
  return e.precision.compute == "bf16" && ops.supports(DType::bf16);
}

double bytes_of(DType dtype) {
  return static_cast<double>(size_of(dtype));
}

// As Model::run_stages has them.
std::vector<double> stage_seconds(const ModelCost& cost, int64_t layers) {
  std::vector<double> stages{cost.embedding.sum()};
  stages.insert(stages.end(), static_cast<size_t>(layers), cost.layer.sum());
  stages.push_back(cost.head.sum());
  stages.insert(stages.end(), static_cast<size_t>(layers), cost.layer_backward.sum());
  stages.push_back(cost.embedding_backward.sum());
  return stages;
}

// Elements of the parameters that a rank writes into checkpoints (ShardPlan::writer).
int64_t written_elements(const ShardPlan& shards, const ParameterRegistry& registry, int rank) {
  constexpr int64_t kAlignment = ParameterRegistry::kAlignment;
  int64_t elements = 0;
  for (const Bucket& bucket : shards.buckets())
    for (const Bucket::Piece& piece : bucket.pieces)
      if (piece.owner == rank && piece.begin == 0)
        elements += (registry[piece.parameter].count() + kAlignment - 1) / kAlignment * kAlignment;
  return elements;
}

// Of ranks that own equal sets of shapes and as many elements, and write as many, the first: they need the
// same memory.
std::vector<int> different_ranks(const ShardPlan& shards, const ParameterRegistry& registry) {
  using Owned = std::map<std::string, int64_t>;
  std::vector<Owned> owned(static_cast<size_t>(shards.world_size()));
  for (const Bucket& bucket : shards.buckets())
    for (const Bucket::Piece& piece : bucket.pieces) {
      const Parameter& parameter = registry[piece.parameter];
      Owned& of_rank = owned[static_cast<size_t>(piece.owner)];
      if (piece.begin == 0) of_rank["written"] += parameter.count();
      if (piece.count == parameter.count()) {
        of_rank[parameter.shape.text()] += 1;
      } else {
        of_rank["pieces"] += 1;
        of_rank["elements"] += piece.count;
      }
    }
  std::map<Owned, int> first;
  for (size_t rank = 0; rank < owned.size(); ++rank) first.emplace(owned[rank], static_cast<int>(rank));
  std::vector<int> ranks;
  for (const auto& [kind, rank] : first) ranks.push_back(rank);
  return ranks;
}

}  // namespace

struct RankSimulator::State {
  State(const Experiment& e, const Ops& o, const Hardware& h, int n)
      : experiment(e),
        ops(o),
        hardware(h),
        ranks(n),
        bf16(computes_in_bf16(e, o)),
        rates(rates_of(h, std::min<int64_t>(n, h.node.devices), bf16)),
        optimizer(resolved_optimizer(e)),
        model(e.model, ModelUse{}) {
    const int64_t all_sequences = e.batch.global_tokens / e.data.sequence_length;
    if (ranks < 1 || all_sequences % ranks != 0)
      fail_usage("batch.global_tokens: the {} sequences of a step cannot be shared equally among {} ranks",
                 all_sequences, ranks);
    sequences = all_sequences / ranks;
    if (e.distributed.reduction == "invariant")
      fail_usage(
          "distributed.reduction: found invariant, which a simulation does not know; expected fast (append "
          "distributed.reduction=fast)");
    collective_seconds(hardware, ranks, 0.0);  // says if there is no network
    if (ranks > 1) shards.emplace(registry(), owner_costs(optimizer, registry()), ShardOptions{ranks});
    const std::vector<UpdateCost> updates =
        update_costs(optimizer, registry(), shards ? &*shards : nullptr, bf16 ? 2 : 0, rates);
    update = *std::max_element(updates.begin(), updates.end(),
                               [](const UpdateCost& a, const UpdateCost& b) { return a.sum() < b.sum(); });
    if (shards) plan_exchange();
  }

  const ParameterRegistry& registry() const { return model.registry(); }

  Experiment with(int64_t micro_sequences, Recompute recompute) const {
    Experiment e = experiment;
    e.batch.micro_sequences = micro_sequences;
    e.train.recompute = recompute;
    return e;
  }

  size_t memory_of(const RunPlan& plan) const {
    return plan.device.total_bytes() + (ops.host_memory() ? plan.host.total_bytes() : 0);
  }

  // What several ranks need more or less than one does not depend on the micro-batch or on what is computed
  // again: the plan of one rank with as many sequences says how these change the rest.
  size_t memory_alone(int64_t micro_sequences, Recompute recompute) const {
    Experiment e = with(micro_sequences, recompute);
    e.batch.global_tokens = sequences * e.data.sequence_length;
    return memory_of(RunPlan(e, ops));
  }

  // The rank that needs the most memory: for its optimizer, and, where the device has the host's memory, for
  // its part of a checkpoint.
  int hungriest_rank() const {
    int hungriest = 0;
    size_t most = 0;
    for (const int rank : different_ranks(*shards, registry())) {
      MemoryPlan memory;
      Optimizer state(optimizer, experiment.schedule, registry(), experiment.train.max_steps, DType::f32,
                      {.plan = &*shards, .rank = rank});
      state.plan(memory, ops);
      if (ops.host_memory()) {
        for (const StateTensor& tensor : state.state())
          memory.add("checkpoint", tensor.name, tensor.tensor.dtype, tensor.tensor.shape);
        memory.add("checkpoint", "parameters", DType::f32, {written_elements(*shards, registry(), rank)});
      }
      if (memory.total_bytes() <= most) continue;
      most = memory.total_bytes();
      hungriest = rank;
    }
    return hungriest;
  }

  void plan_exchange() {
    const RunPlan plan(with(1, Recompute::none), ops, {.rank = hungriest_rank(), .world_size = ranks});
    of_several_ranks =
        static_cast<int64_t>(memory_of(plan)) - static_cast<int64_t>(memory_alone(1, Recompute::none));
    shards_gradients = plan.shards_gradients;
    gradient_dtype = plan.gradient_dtype;
    weight_dtype = plan.model.weights_only() ? DType::bf16 : DType::f32;
  }

  // Copies into the buffer and out of it are a kernel a piece, as in train/shard_exchange.cpp.
  BucketTimes bucket_times(const Bucket& bucket) const {
    const auto part = static_cast<double>(bucket.part), parts = part * static_cast<double>(ranks);
    const auto pieces = static_cast<double>(bucket.pieces.size()), own = pieces / static_cast<double>(ranks);
    const double g = bytes_of(gradient_dtype), w = bytes_of(weight_dtype);
    BucketTimes times;
    times.reduce_scatter = collective_seconds(hardware, ranks, g * part);
    times.all_gather = collective_seconds(hardware, ranks, w * part);
    // Zeros written; gradients read and written.
    times.pack_gradients = (4.0 + 2.0 * g) * parts / rates.memory + (pieces + 1.0) * rates.launch;
    if (shards_gradients || gradient_dtype != DType::f32)
      times.unpack_gradients = (g + (shards_gradients ? 8.0 : 4.0)) * part / rates.memory + rates.launch;
    times.pack_weights = 2.0 * w * part / rates.memory + own * rates.launch;
    times.unpack_weights = 2.0 * w * (parts - part) / rates.memory + (pieces - own) * rates.launch;
    times.first_use = static_cast<size_t>(model.stage_count()) - 1;
    for (const Bucket::Piece& piece : bucket.pieces) {
      times.first_use = std::min(times.first_use, static_cast<size_t>(model.first_use(piece.parameter)));
      times.last_gradient =
          std::max(times.last_gradient, static_cast<size_t>(model.last_gradient(piece.parameter)));
    }
    return times;
  }

  StepTimes step_times(const ModelCost& cost, int64_t micro_steps) const {
    StepTimes times;
    times.stages = stage_seconds(cost, experiment.model.num_hidden_layers);
    times.micro_steps = micro_steps;
    if (shards)
      for (const Bucket& bucket : shards->buckets()) times.buckets.push_back(bucket_times(bucket));
    times.reduce_every_micro_step = shards_gradients;
    times.scalars = 2.0 * scalar_seconds(hardware, ranks);  // loss and norm
    times.update = update.sum();
    // Gradients set to zero.
    const double zeros = 4.0 * static_cast<double>(registry().flat_count()) / rates.memory;
    (shards_gradients ? times.stages.front() : times.begin) += zeros;
    return times;
  }

  Experiment experiment;
  const Ops& ops;
  Hardware hardware;
  int ranks;
  bool bf16;
  DeviceRates rates;
  OptimizerConfig optimizer;
  Model model;
  int64_t sequences = 0;  // of a rank in a step
  std::optional<ShardPlan> shards;
  UpdateCost update;             // of the slowest rank
  int64_t of_several_ranks = 0;  // bytes of memory
  bool shards_gradients = false;
  DType gradient_dtype = DType::f32, weight_dtype = DType::f32;  // on their way
};

RankSimulator::RankSimulator(const Experiment& experiment, const Ops& ops, const Hardware& hardware,
                             int ranks)
    : state_(std::make_unique<State>(experiment, ops, hardware, ranks)) {}
RankSimulator::~RankSimulator() = default;

int64_t RankSimulator::sequences() const {
  return state_->sequences;
}

int64_t RankSimulator::configured_micro_sequences() const {
  const int64_t all = sequences(), wanted = state_->experiment.batch.micro_sequences;
  int64_t micro = wanted == 0 ? all : std::min(wanted, all);
  while (all % micro != 0) --micro;
  return micro;
}

size_t RankSimulator::memory_bytes(int64_t micro_sequences, Recompute recompute) const {
  return static_cast<size_t>(static_cast<int64_t>(state_->memory_alone(micro_sequences, recompute)) +
                             state_->of_several_ranks);
}

Simulation RankSimulator::run() const {
  return run(configured_micro_sequences(), state_->experiment.train.recompute);
}

Simulation RankSimulator::run(int64_t micro_sequences, Recompute recompute) const {
  if (micro_sequences < 1 || sequences() % micro_sequences != 0)
    fail_usage(
        "batch.micro_sequences: found {}, expected a divisor of the {} sequences of a step on one rank",
        micro_sequences, sequences());
  const State& s = *state_;
  Simulation out;
  out.ranks = s.ranks;
  out.nodes = nodes_of(s.hardware, s.ranks);
  out.micro_sequences = micro_sequences;
  out.micro_steps = sequences() / micro_sequences;
  out.recompute = recompute;
  out.shards_gradients = s.shards_gradients;
  out.gradient_dtype = s.gradient_dtype;
  out.memory_bytes = memory_bytes(micro_sequences, recompute);
  const DeviceHardware& device = s.hardware.device;
  out.capacity_bytes = static_cast<size_t>(1e9 * (device.memory_gb - device.reserved_gb));
  add_times(out);
  if (s.shards) {
    out.padding = s.shards->padding();
    out.imbalance = s.shards->imbalance();
    out.elements_sent = s.shards->elements_sent();
    const auto gradient_bytes = static_cast<int64_t>(size_of(s.gradient_dtype)),
               weight_bytes = static_cast<int64_t>(size_of(s.weight_dtype)),
               times = s.shards_gradients ? out.micro_steps : 1;
    out.bytes_sent = out.elements_sent / 2 * (times * gradient_bytes + weight_bytes);
  }
  return out;
}

void RankSimulator::add_times(Simulation& out) const {
  const State& s = *state_;
  const Experiment& e = s.experiment;
  const ModelCost cost = model_cost(e.model,
                                    {.sequences = out.micro_sequences,
                                     .time = e.data.sequence_length,
                                     .element = s.bf16 ? 2 : 4,
                                     .recompute = out.recompute},
                                    s.rates);
  const auto layers = static_cast<double>(e.model.num_hidden_layers);
  const auto micro_steps = static_cast<double>(out.micro_steps);
  out.forward = micro_steps * cost.embedding;
  out.forward += (micro_steps * layers) * cost.layer;
  out.backward = micro_steps * cost.head;
  out.backward += (micro_steps * layers) * cost.layer_backward;
  out.backward += micro_steps * cost.embedding_backward;
  out.update = s.update;
  StepTimes times = s.step_times(cost, out.micro_steps);
  out.timeline = run_timeline(times);
  out.other = out.timeline.compute - out.forward.sum() - out.backward.sum() - out.update.sum();
  times.overlap = false;
  out.step_without_overlap = run_timeline(times).step;
  out.tokens_per_s = static_cast<double>(e.batch.global_tokens) / out.timeline.step;
  const DeviceHardware& device = s.hardware.device;
  const double peak =
      1e12 * (s.bf16 ? device.tflops_bf16 : device.tflops_fp32) * static_cast<double>(s.ranks);
  out.mfu = flops_per_token(e.model, e.data.sequence_length) * out.tokens_per_s / peak;
}

}  // namespace polar

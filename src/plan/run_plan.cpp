#include "plan/run_plan.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "plan/gradient_layout.h"

namespace polar {
namespace {

ModelUse training_use(const Experiment& e, const Ops& ops, int64_t micro_sequences, int world_size) {
  ModelUse use;
  use.micro_sequences = micro_sequences;
  use.time = e.data.sequence_length;
  use.recompute = e.train.recompute;
  // Where the device has no bf16 (precision_gaps says so) the plan is that of fp32.
  if (e.precision.compute == "bf16" && ops.supports(DType::bf16)) use.dtype = DType::bf16;
  use.weights_only = use.dtype == DType::bf16 && world_size > 1;
  return use;
}

int64_t sequences(const Experiment& e) {
  if (e.data.sequence_length <= 0 || e.batch.global_tokens <= 0 ||
      e.batch.global_tokens % e.data.sequence_length != 0)
    fail_usage("batch.global_tokens: found {}, expected a multiple of data.sequence_length ({})",
               e.batch.global_tokens, e.data.sequence_length);
  return e.batch.global_tokens / e.data.sequence_length;
}

int64_t own_sequences(const Experiment& e, int world_size) {
  const int64_t all = sequences(e);
  if (all % world_size != 0)
    fail_usage("batch.global_tokens: the {} sequences of a step cannot be shared equally among {} ranks", all,
               world_size);
  return all / world_size;
}

int64_t micro(const Experiment& e, int world_size) {
  const int64_t all = own_sequences(e, world_size);
  const int64_t wanted = e.batch.micro_sequences == 0 ? all : e.batch.micro_sequences;
  if (wanted < 1 || all % wanted != 0)
    fail_usage("batch.micro_sequences: found {}, expected a divisor of the {} sequences of a step{}", wanted,
               all, world_size == 1 ? "" : " on one rank");
  return wanted;
}

std::optional<ShardPlan> make_shards(const Experiment& e, const ParameterRegistry& registry, int world_size) {
  if (world_size == 1) return std::nullopt;
  return ShardPlan(registry, owner_costs(e.optimizer, registry), {.world_size = world_size});
}

InputIds plan_input(MemoryPlan& memory, const std::string& name, int64_t rows, int64_t time,
                    Packing packing) {
  InputIds input;
  input.ids = memory.add("input", name + " ids", DType::i32, {rows, time});
  input.targets = memory.add("input", name + " targets", DType::i32, {rows, time});
  if (packing == Packing::documents)
    input.document_starts = memory.add("input", name + " document starts", DType::i32, {rows, time});
  return input;
}

}  // namespace

OptimizerConfig resolved_optimizer(const Experiment& e) {
  OptimizerConfig config = e.optimizer;
  for (GroupConfig& group : config.groups)
    if (group.oracle.products == "auto")
      group.oracle.products = e.precision.compute == "bf16" ? "reduced" : "full";
  return config;
}

int64_t guard_window_elements(const GuardConfig& guard) {
  return 2 + 2 * guard.window;
}

RunPlan::RunPlan(const Experiment& e, const Ops& ops, const Topology& ranks)
    : topology(ranks),
      sequences_per_step(own_sequences(e, ranks.world_size)),
      micro_sequences(micro(e, ranks.world_size)),
      micro_steps(sequences_per_step / micro_sequences),
      model(e.model, training_use(e, ops, micro_sequences, ranks.world_size)),
      shards(make_shards(e, model.registry(), ranks.world_size)),
      optimizer(
          resolved_optimizer(e), e.schedule, model.registry(), e.train.max_steps, DType::f32,
          {.plan = shards ? &*shards : nullptr, .rank = ranks.rank, .own_parameters = model.weights_only()}) {
  optimizer_table =
      shards ? Optimizer(resolved_optimizer(e), e.schedule, model.registry(), e.train.max_steps, DType::f32)
                   .table()
             : optimizer.table();
  const int64_t time = e.data.sequence_length;
  if (shards) place_gradients(e);
  choose_reduction(e);
  model.plan(device, ops);
  optimizer.plan(device, ops);
  if (shards) plan_exchange();
  if (invariant) plan_partial_sums();
  const int64_t inputs = ops.host_memory() ? 1 : 2;
  for (int64_t i = 0; i < inputs; ++i)
    input.push_back(
        plan_input(device, fmt::format("micro-batch {}", i), micro_sequences, time, e.data.packing));
  if (const auto bytes = static_cast<int64_t>(ops.own_workspace()); bytes > 0)
    backend_workspace = device.add("workspace", "backend", DType::f32, {bytes / 4});
  step_inputs = device.add("control", "step inputs", DType::f64, {step_input_count()});
  loss_sum = device.add("control", "loss sum", DType::f64, {1});
  losses =
      device.add("control", "losses of micro-batches", DType::f64, {sequences_per_step * ranks.world_size});
  square_digits = device.add("control", "gradient squares, digits", DType::f64, {kExactDigits});
  gradient_squares = device.add("control", "gradient squares", DType::f64, {1});
  const Shape window{guard_window_elements(e.guard)};
  guard_window = device.add("control", "guard window", DType::f64, window);
  control = device.add("control", "step control", DType::f64, {kControlSize});

  queued_inputs = host.add("control", "step inputs", DType::f64, {kQueuedSteps, step_input_count()});
  queued_controls = host.add("control", "step controls", DType::f64, {kQueuedSteps, kControlSize});
  const int64_t slots = std::max<int64_t>(e.data.prefetch_batches, 2);
  for (int64_t slot = 0; slot < slots; ++slot)
    input_ring.push_back(
        plan_input(host, fmt::format("step {}", slot), sequences_per_step, time, e.data.packing));
  evaluation_input = plan_input(host, "evaluation", micro_sequences, time, e.data.packing);
  plan_snapshot(e);
}

void RunPlan::place_gradients(const Experiment& e) {
  gradient_dtype = e.distributed.gradient_dtype == "bf16" ? DType::bf16 : DType::f32;
  shards_gradients = e.distributed.sharding == "gradients";
  if (!shards_gradients) return;
  GradientLayout layout = one_bucket_layout(model, *shards);
  gradient_window = layout.window;
  model.place_gradients(std::move(layout.offsets), layout.count);
}

// A rank's own sums have to be whole subtrees of the one over all micro-batches. One rank has the whole tree.
void RunPlan::choose_reduction(const Experiment& e) {
  invariant = e.distributed.reduction == "invariant";
  if (!invariant) return;
  const auto is_power_of_two = [](int64_t n) { return std::has_single_bit(static_cast<uint64_t>(n)); };
  if (shards_gradients && !is_power_of_two(topology.world_size))
    fail_usage(
        "distributed.reduction: found invariant with distributed.sharding = gradients on {} ranks, expected "
        "a power of two",
        topology.world_size);
  if (!shards_gradients && topology.world_size > 1 && !is_power_of_two(micro_steps))
    fail_usage(
        "distributed.reduction: found invariant with {} micro-batches on each rank, expected a power of two: "
        "change batch.global_tokens, batch.micro_sequences or the number of ranks",
        micro_steps);
}

void RunPlan::plan_partial_sums() {
  const Shape shape{shards_gradients ? shards->own_elements() : model.registry().flat_count()};
  for (auto rest = micro_steps - 1, level = int64_t{0}; rest > 0; rest /= 2, ++level)
    partial_sums.push_back(device.add(
        "gradients", fmt::format("sum of {} micro-batches", int64_t{1} << level), DType::f32, shape));
}

void RunPlan::plan_exchange() {
  const Shape own{shards->own_elements()};
  own_gradients = device.add("gradients", "own parts of the buckets", DType::f32, own);
  if (model.weights_only())
    own_parameters = device.add("parameters", "own parts of the buckets", DType::f32, own);
  // Weights travel as they are computed with; element-wise parameters once a checkpoint in full, in the
  // first.
  const DType weight_dtype = model.weights_only() ? DType::bf16 : DType::f32;
  std::array<int64_t, 2> bytes{};
  int64_t part = 0;
  for (size_t b = 0; b < shards->buckets().size(); ++b) {
    const int64_t elements = topology.world_size * shards->buckets()[b].part;
    part = std::max(part, shards->buckets()[b].part);
    for (size_t i = 0; i < bytes.size(); ++i) {
      const bool in_full = i == 0 && b >= shards->matrix_buckets() && own_parameters;
      const size_t widest =
          in_full ? sizeof(float) : std::max(size_of(gradient_dtype), size_of(weight_dtype));
      bytes[i] = std::max(bytes[i], elements * static_cast<int64_t>(widest));
    }
  }
  for (size_t i = 0; i < travelling.size(); ++i)
    travelling[i] = device.add("gradients", fmt::format("bucket on its way {}", i), DType::f32,
                               {bytes[i] / static_cast<int64_t>(sizeof(float))});
  if (invariant)
    for (size_t i = 0; i < arrived_rows.size(); ++i)
      arrived_rows[i] = device.add("gradients", fmt::format("bucket from all ranks {}", i), DType::f32,
                                   {topology.world_size * part});
  if (shards_gradients && gradient_dtype != DType::f32)
    arrived_gradients = device.add("gradients", "part that arrived", DType::f32, {part});
}

int64_t RunPlan::bytes_sent() const {
  if (!shards) return 0;
  const int64_t one_way = shards->elements_sent() / 2, times = shards_gradients ? micro_steps : 1;
  const size_t weight = model.weights_only() ? size_of(DType::bf16) : sizeof(float);
  return one_way * (times * static_cast<int64_t>(size_of(gradient_dtype)) + static_cast<int64_t>(weight));
}

void RunPlan::plan_snapshot(const Experiment& e) {
  const ParameterRegistry& registry = model.registry();
  constexpr int64_t kAlignment = ParameterRegistry::kAlignment;
  int64_t count = 0;
  for (int i = 0; i < static_cast<int>(registry.parameters().size()); ++i) {
    if (shards && shards->writer(i) != topology.rank) continue;
    written.push_back({i, count});
    count += (registry[i].count() + kAlignment - 1) / kAlignment * kAlignment;
  }
  snapshot_parameters = host.add("checkpoint", "parameters", DType::f32, {count});
  for (const StateTensor& state : optimizer.state())
    snapshot_optimizer.push_back(host.add("checkpoint", state.name, state.tensor.dtype, state.tensor.shape));
  snapshot_window = host.add("checkpoint", "guard window", DType::f64, {guard_window_elements(e.guard)});
  snapshot_control = host.add("checkpoint", "step control", DType::f64, {kControlSize});
}

}  // namespace polar

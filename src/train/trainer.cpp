#include "train/trainer.h"

#include <algorithm>
#include <array>

#include "data/tokenizer.h"
#include "eval/load_model.h"

namespace polar {
namespace {

std::unique_ptr<Loader> make_loader(const Experiment& e, const std::vector<DataSource>& sources,
                                    SampleOrder order) {
  LoaderOptions options;
  options.sources = sources;
  options.sequence_length = e.data.sequence_length;
  options.packing = e.data.packing;
  options.order = order;
  options.seed = e.run.seed;
  options.vocab_size = e.model.vocab_size;
  if (!e.data.tokenizer.empty()) options.tokenizer_hash = load_tokenizer(e.data.tokenizer)->hash();
  return std::make_unique<Loader>(options);
}

}  // namespace

Trainer::Trainer(const Experiment& experiment, Ops& ops, Communicator& comm)
    : experiment_(experiment),
      ops_(ops),
      comm_(comm),
      plan_(experiment, ops),
      device_(plan_.device, ops, MemoryKind::device),
      host_(plan_.host, ops, MemoryKind::host),
      training_(make_loader(experiment, experiment.data.train, SampleOrder::shuffled)) {
  if (!experiment.data.validation.empty())
    validation_ = make_loader(experiment, experiment.data.validation, SampleOrder::sequential);
  plan_.model.bind(ops, device_.arena());
  plan_.optimizer.bind(ops, device_.arena());
  ops.fill(device_[plan_.control], 0.0);
  ops.fill(device_[plan_.guard_window], 0.0);
}

void Trainer::initialize() {
  plan_.model.initialize(experiment_.run.seed);
  if (!experiment_.train.init_from.empty()) load_weights(ops_, plan_.model, experiment_.train.init_from);
}

BatchTensors Trainer::host_tensors(const InputIds& ids) const {
  return {host_[ids.ids], host_[ids.targets], host_[ids.document_starts]};
}

void Trainer::start() {
  std::vector<Batch> ring;
  for (const InputIds& slot : plan_.input_ring)
    ring.push_back(
        host_batch(host_tensors(slot), plan_.sequences_per_step, experiment_.data.sequence_length));
  const auto per_rank = static_cast<uint64_t>(plan_.sequences_per_step);
  const auto rank = static_cast<uint64_t>(comm_.rank()), ranks = static_cast<uint64_t>(comm_.world_size());
  prefetcher_ =
      std::make_unique<Prefetcher>(*training_, std::move(ring), static_cast<uint64_t>(progress_.step),
                                   [=](uint64_t step) { return (step * ranks + rank) * per_rank; });
}

void Trainer::begin_step() {
  view_ = prefetcher_->next();
  std::array<double, 1> valid{static_cast<double>(view_.counts.valid_tokens)};
  comm_.all_reduce_sum(std::span<double>(valid));
  valid_tokens_ = std::max(valid[0], 1.0);
  ops_.fill(plan_.model.gradients(), 0.0);
  ops_.fill(device_[plan_.loss_sum], 0.0);
}

void Trainer::micro_step(int64_t micro) {
  const BatchTensors input{device_[plan_.input.ids], device_[plan_.input.targets],
                           device_[plan_.input.document_starts]};
  const ModelBatch batch =
      upload_batch(ops_, view_.batch, micro * plan_.micro_sequences, plan_.micro_sequences, input);
  plan_.model.forward_backward(batch, 1.0 / valid_tokens_, device_[plan_.loss_sum]);
}

Trainer::Outcome Trainer::end_step() {
  comm_.all_reduce_sum(device_[plan_.loss_sum]);
  comm_.all_reduce_sum(plan_.model.gradients());
  ops_.sum_squares(plan_.model.gradients(), device_[plan_.gradient_squares], false);

  StepControl control;
  control.loss_sum = device_[plan_.loss_sum];
  control.gradient_squares = device_[plan_.gradient_squares];
  control.valid_tokens = valid_tokens_;
  control.clip_norm = experiment_.optimizer.clip_norm;
  control.guard = experiment_.guard.enabled;
  control.guard_deviations = experiment_.guard.deviations;
  control.guard_window = experiment_.guard.window;
  control.guard_minimum = experiment_.guard.minimum;
  control.window = device_[plan_.guard_window];
  control.control = device_[plan_.control];
  ops_.step_control(control);
  plan_.optimizer.step(progress_.step, {.parameters = plan_.model.parameters(),
                                        .gradients = plan_.model.gradients(),
                                        .weights = plan_.model.rounded_weights(),
                                        .control = control.control});

  progress_.step += 1;
  progress_.tokens += experiment_.batch.global_tokens;
  std::array<double, kControlSize> values{};
  ops_.download(values.data(), control.control);
  Outcome outcome;
  outcome.loss = values[kControlLoss];
  outcome.gradient_norm = values[kControlGradientNorm];
  outcome.applied = values[kControlApply] != 0.0;
  outcome.consecutive_skips = static_cast<int64_t>(values[kControlConsecutiveSkips]);
  outcome.total_skips = static_cast<int64_t>(values[kControlTotalSkips]);
  return outcome;
}

std::vector<double> Trainer::learning_rates() const {
  return plan_.optimizer.learning_rates(std::max<int64_t>(progress_.step - 1, 0));
}

Evaluation Trainer::evaluate() {
  EvaluationMemory memory;
  memory.micro_sequences = plan_.micro_sequences;
  memory.host = host_tensors(plan_.evaluation_input);
  memory.device = {device_[plan_.input.ids], device_[plan_.input.targets],
                   device_[plan_.input.document_starts]};
  memory.loss_sum = device_[plan_.loss_sum];
  return polar::evaluate(ops_, plan_.model, *validation_, experiment_.evaluation.sequences, memory);
}

}  // namespace polar

#include "train/trainer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

#include "data/tokenizer.h"
#include "train/parameters.h"

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

BatchTensors tensors_of(const PlannedMemory& memory, const InputIds& ids) {
  return {memory[ids.ids], memory[ids.targets], memory[ids.document_starts]};
}

}  // namespace

Trainer::Trainer(const Experiment& experiment, Ops& ops, Communicator& comm)
    : experiment_(experiment),
      ops_(ops),
      comm_(comm),
      plan_(experiment, ops, {comm.rank(), comm.world_size()}),
      device_(plan_.device, ops, MemoryKind::device),
      host_(plan_.host, ops, MemoryKind::host),
      training_(make_loader(experiment, experiment.data.train, SampleOrder::shuffled)) {
  if (!experiment.data.validation.empty())
    validation_ = make_loader(experiment, experiment.data.validation, SampleOrder::sequential);
  if (const Tensor workspace = device_[plan_.backend_workspace]) ops.lend_workspace(workspace);
  plan_.model.bind(ops, device_.arena());
  plan_.optimizer.bind(ops, device_.arena());
  ops.fill(device_[plan_.control], 0.0);
  ops.fill(device_[plan_.guard_window], 0.0);
  if (plan_.invariant) {
    std::vector<Tensor> levels;
    for (const BufferId level : plan_.partial_sums) levels.push_back(device_[level]);
    pairs_.emplace(ops_, plan_.shards_gradients ? device_[plan_.own_gradients] : plan_.model.gradients(),
                   std::move(levels));
  }
  if (plan_.shards) exchange_.emplace(ops_, comm_, plan_, device_, pairs_ ? &*pairs_ : nullptr);
  block_cuts_ = block_cuts();
  prepare_steps();
}

// What the steps of the run repeat, with the marks that order them.
void Trainer::prepare_steps() {
  inputs_.reserve(plan_.input.size());
  for (size_t i = 0; i < plan_.input.size(); ++i) {
    Input& input = inputs_.emplace_back();
    input.tensors = tensors_of(device_, plan_.input[i]);
    input.uploaded = ops_.make_mark();
    input.used = ops_.make_mark();
    input.pieces = make_pieces(i);
  }
  step_inputs_uploaded_ = ops_.make_mark();
  updated_ = ops_.make_mark();
  for (std::unique_ptr<Mark>& done : done_) done = ops_.make_mark();
}

// Where blocks of kExactAtom elements have to begin anew to begin with every parameter, as they do among the
// parts of several ranks: one that is joined to another may stand within a block of that one.
std::vector<int64_t> Trainer::block_cuts() const {
  std::vector<int64_t> cuts{0};
  if (!exchange_)
    for (const Parameter& parameter : plan_.model.registry().parameters())
      if (parameter.offset % kExactAtom != cuts.back() % kExactAtom) cuts.push_back(parameter.offset);
  cuts.push_back(step_gradients().count());
  return cuts;
}

std::vector<Trainer::Piece> Trainer::make_pieces(size_t input) {
  std::vector<int64_t> cuts{0, plan_.model.stage_count()};
  if (exchange_) cuts = exchange_->cuts();
  std::vector<Piece> pieces;
  for (size_t i = 0; i + 1 < cuts.size(); ++i)
    pieces.push_back(
        {cuts[i + 1], ops_.repeat([this, begin = cuts[i], end = cuts[i + 1], batch = device_batch(input)] {
           plan_.model.run_stages(begin, end, batch,
                                  1.0 / static_cast<double>(experiment_.batch.global_tokens),
                                  device_[plan_.loss_sum]);
         })});
  return pieces;
}

void Trainer::initialize() {
  if (experiment_.train.init_from.empty())
    initialize_parameters(ops_, plan_, device_, experiment_.run.seed);
  else
    load_parameters(ops_, plan_, device_, experiment_.train.init_from);
}

void Trainer::restore(const std::filesystem::path& checkpoint) {
  progress_ = polar::restore(ops_, plan_, device_, checkpoint);
  std::array<double, kControlSize> control{};
  ops_.download(control.data(), device_[plan_.control]);
  applied_steps_ = static_cast<int64_t>(control[kControlAppliedSteps]);
}

void Trainer::share_weights() {
  if (plan_.own_parameters) exchange_->send_weights();
}

void Trainer::complete_weights() {
  if (exchange_) exchange_->receive_weights();
}

bool Trainer::parameters_are_finite() {
  const Tensor scalar = device_[plan_.gradient_squares];
  ops_.sum_squares(trained_parameters(plan_, device_), scalar, false);
  double squares = 0.0;
  ops_.download(&squares, scalar);
  comm_.all_reduce_sum(std::span<double>(&squares, 1));
  return std::isfinite(squares);
}

CheckpointContent Trainer::snapshot() {
  complete_weights();
  CheckpointContent content =
      take_snapshot(ops_, plan_, device_, host_, exchange_ ? &*exchange_ : nullptr, experiment_, progress_);
  comm_.check();  // what a failed exchange has left is no checkpoint
  return content;
}

void Trainer::start() {
  std::vector<Batch> ring;
  for (const InputIds& slot : plan_.input_ring)
    ring.push_back(
        host_batch(tensors_of(host_, slot), plan_.sequences_per_step, experiment_.data.sequence_length));
  const auto micro = static_cast<uint64_t>(plan_.micro_sequences),
             in_step = static_cast<uint64_t>(plan_.sequences_per_step * comm_.world_size()),
             first = static_cast<uint64_t>(plan_.micro_batch(0)) * micro,
             apart = static_cast<uint64_t>(plan_.micro_batch(1) - plan_.micro_batch(0)) * micro;
  prefetcher_ = std::make_unique<Prefetcher>(
      *training_, std::move(ring), static_cast<uint64_t>(progress_.step),
      [=](uint64_t step) { return step * in_step + first; },
      Prefetcher::Rows{.together = plan_.micro_sequences, .apart = apart});
}

ModelBatch Trainer::device_batch(size_t input) const {
  return model_batch(inputs_[input].tensors, plan_.micro_sequences, experiment_.data.sequence_length);
}

// False if a rank was interrupted.
bool Trainer::begin_step(bool interrupted) {
  if (pending_ == RunPlan::kQueuedSteps) fail("Trainer: the outcomes of {} steps wait to be read", pending_);
  comm_.activity().at(progress_.step + 1, "waiting for the device");
  for (const Input& input : inputs_) ops_.wait(*input.uploaded);  // next() lets go of what is read there
  comm_.activity().at(progress_.step + 1, "waiting for data");
  view_ = prefetcher_->next();
  comm_.activity().at(progress_.step + 1, "forward and backward");
  std::array<double, 2> sums{static_cast<double>(view_.counts.valid_tokens), interrupted ? 1.0 : 0.0};
  comm_.all_reduce_sum(std::span<double>(sums));
  if (sums[1] > 0.0) return false;
  upload_step_inputs(std::max(sums[0], 1.0));
  upload_micro_batch(0);
  if (exchange_) exchange_->clear_gradients();
  ops_.fill(losses(), 0.0);
  return true;
}

void Trainer::upload_step_inputs(double valid_tokens) {
  double* inputs = host_row(plan_.queued_inputs, slot_of(progress_.step), plan_.step_input_count());
  inputs[0] = valid_tokens;
  const size_t groups = plan_.optimizer.group_count();
  for (size_t group = 0; group < groups; ++group) {
    inputs[1 + group] = plan_.optimizer.learning_rate(group, progress_.step);
    inputs[1 + groups + group] = plan_.optimizer.beta(group, progress_.step);
  }
  ops_.upload_ahead(device_[plan_.step_inputs], inputs, *updated_, *step_inputs_uploaded_);
}

void Trainer::upload_micro_batch(int64_t micro) {
  Input& input = inputs_[next_input_];
  copy_batch(view_.batch, micro * plan_.micro_sequences, device_batch(next_input_),
             [&](const Tensor& to, const int32_t* from) {
               ops_.upload_ahead(to, from, *input.used, *input.uploaded);
             });
}

void Trainer::micro_step(int64_t micro) {
  comm_.activity().at(progress_.step + 1, "forward and backward");
  Input& input = inputs_[next_input_];
  ops_.follow(*input.uploaded);
  const bool gradients_leave = plan_.shards_gradients || micro + 1 == plan_.micro_steps;
  const bool is_summand = plan_.shards_gradients || plan_.invariant;  // else the backward pass adds
  if (micro == 0 || is_summand) ops_.fill(plan_.model.gradients(), 0.0);
  ops_.fill(device_[plan_.loss_sum], 0.0);
  for (const Piece& piece : input.pieces) {
    if (exchange_) exchange_->receive_weights(piece.end);
    piece.work->run();
    if (exchange_ && gradients_leave) exchange_->send_gradients(piece.end, micro);
  }
  if (pairs_ && !(exchange_ && gradients_leave))
    pairs_->add(plan_.model.gradients(), micro, plan_.micro_steps);
  ops_.copy(device_[plan_.loss_sum], losses().slice(plan_.micro_batch(micro), {1}));
  ops_.set(*input.used);
  next_input_ = (next_input_ + 1) % inputs_.size();
  if (micro + 1 < plan_.micro_steps) upload_micro_batch(micro + 1);
}

StepControl Trainer::step_control() const {
  StepControl control;
  control.loss_sum = device_[plan_.loss_sum];
  control.gradient_squares = device_[plan_.gradient_squares];
  control.valid_tokens = device_[plan_.step_inputs].slice(0, {1});
  control.gradient_tokens = static_cast<double>(experiment_.batch.global_tokens);
  control.clip_norm = experiment_.optimizer.clip_norm;
  control.guard = experiment_.guard.enabled;
  control.guard_deviations = experiment_.guard.deviations;
  control.guard_window = experiment_.guard.window;
  control.guard_minimum = experiment_.guard.minimum;
  control.guard_maximum_skips = experiment_.guard.max_consecutive_skips;
  control.window = device_[plan_.guard_window];
  control.control = device_[plan_.control];
  return control;
}

// Steps that wait to be read back may have been applied or skipped. Only where that makes a difference does
// the host wait for them.
uint64_t Trainer::update_phase() {
  const uint64_t phase = plan_.optimizer.phase(applied_steps_);
  bool known = true;
  for (int64_t i = 1; i <= pending_; ++i) known &= plan_.optimizer.phase(applied_steps_ + i) == phase;
  if (known) return phase;
  const size_t last = slot_of(progress_.step - 1);
  ops_.wait(*done_[last]);
  comm_.check();  // what came after a failed exchange says nothing
  const double* control = host_row(plan_.queued_controls, last, kControlSize);
  return plan_.optimizer.phase(static_cast<int64_t>(control[kControlAppliedSteps]));
}

void Trainer::update(uint64_t phase) {
  ops_.step_control(step_control());
  try {
    plan_.optimizer.step(step_tensors(), phase);
  } catch (const Error& error) {
    throw Error(fmt::format("step {}: {}", progress_.step + 1, error.what()), error.code());
  }
}

StepTensors Trainer::step_tensors() const {
  const Tensor inputs = device_[plan_.step_inputs];
  const auto groups = static_cast<int64_t>(plan_.optimizer.group_count());
  return {.parameters = trained_parameters(plan_, device_),
          .gradients = step_gradients(),
          .weights = plan_.model.rounded_weights(),
          .control = device_[plan_.control],
          .learning_rates = inputs.slice(1, {groups}),
          .betas = inputs.slice(1 + groups, {groups})};
}

DiagnosticValues Trainer::diagnose(Diagnostics& diagnostics, const Outcome& outcome) {
  if (pending_ > 0) fail("Trainer: diagnostics of a step that others have followed");
  double squares = 0.0;
  ops_.download(&squares, device_[plan_.gradient_squares]);
  ops_.synchronize();
  return diagnostics.measure(ops_, step_tensors(), outcome.step - 1, outcome.gradient_norm,
                             std::sqrt(squares));
}

// Of the step's micro-batches, by their number.
Tensor Trainer::losses() const {
  return device_[plan_.losses].slice(0, {plan_.micro_steps * plan_.topology.world_size});
}

Tensor Trainer::step_gradients() const {
  return exchange_ ? device_[plan_.own_gradients] : plan_.model.gradients();
}

// Over all ranks.
void Trainer::sum_gradient_squares() {
  const Tensor gradients = step_gradients(), digits = device_[plan_.square_digits];
  for (size_t i = 0; i + 1 < block_cuts_.size(); ++i)
    ops_.exact_squares(gradients.slice(block_cuts_[i], {block_cuts_[i + 1] - block_cuts_[i]}), digits, i > 0);
  if (exchange_) exchange_->reduce_scalars(digits, "gradient norm");
  ops_.exact_value(digits, device_[plan_.gradient_squares]);
}

void Trainer::end_step() {
  comm_.activity().at(progress_.step + 1, "reduction and update");
  if (exchange_) {
    exchange_->receive_gradients();
    exchange_->reduce_scalars(losses(), "loss");
  }
  ops_.sum(losses(), device_[plan_.loss_sum], false);
  sum_gradient_squares();
  ops_.follow(*step_inputs_uploaded_);
  const uint64_t phase = update_phase();
  std::unique_ptr<Repeated>& work = updates_[phase];
  if (!work) work = ops_.repeat([this, phase] { update(phase); });
  work->run();
  ops_.set(*updated_);
  if (exchange_) exchange_->send_weights();

  const size_t slot = slot_of(progress_.step);
  ops_.download_queued(host_row(plan_.queued_controls, slot, kControlSize), device_[plan_.control]);
  ops_.set(*done_[slot]);
  pending_ += 1;
  progress_.step += 1;
  progress_.tokens += experiment_.batch.global_tokens;
}

Trainer::Outcome Trainer::next_outcome() {
  if (pending_ == 0) fail("Trainer: no step was queued");
  const size_t slot = oldest_slot();
  comm_.activity().at(progress_.step - pending_ + 1, "waiting for the device");
  ops_.wait(*done_[slot]);
  comm_.check();  // what came after a failed exchange is no outcome
  pending_ -= 1;
  const double* values = host_row(plan_.queued_controls, slot, kControlSize);
  Outcome outcome;
  outcome.step = progress_.step - pending_;
  outcome.tokens = progress_.tokens - pending_ * experiment_.batch.global_tokens;
  outcome.loss = values[kControlLoss];
  outcome.gradient_norm = values[kControlGradientNorm];
  outcome.applied = values[kControlApply] != 0.0;
  applied_steps_ = static_cast<int64_t>(values[kControlAppliedSteps]);
  outcome.consecutive_skips = static_cast<int64_t>(values[kControlConsecutiveSkips]);
  outcome.total_skips = static_cast<int64_t>(values[kControlTotalSkips]);
  return outcome;
}

void Trainer::forget_queued(const Outcome& last) {
  ops_.synchronize();
  pending_ = 0;
  progress_.step = last.step;
  progress_.tokens = last.tokens;
}

Evaluation Trainer::evaluate() {
  comm_.activity().at(progress_.step, "validation");
  complete_weights();
  EvaluationMemory memory;
  memory.micro_sequences = plan_.micro_sequences;
  memory.host = tensors_of(host_, plan_.evaluation_input);
  memory.device = inputs_.front().tensors;
  memory.loss_sum = device_[plan_.loss_sum];
  const int64_t windows = evaluated_windows(*validation_, experiment_.evaluation.sequences);
  const int64_t rank = comm_.rank(), ranks = comm_.world_size();
  EvaluationSums sums =
      sum_losses(ops_, plan_.model, *validation_, windows * rank / ranks, windows * (rank + 1) / ranks,
                 memory, [this](int64_t, int64_t) { comm_.activity().moved(); });
  std::array<double, 3> all{sums.loss, sums.tokens, sums.text_bytes};
  comm_.all_reduce_sum(std::span<double>(all));
  return evaluation_of({all[0], all[1], all[2]}, validation_->knows_text_bytes());
}

}  // namespace polar

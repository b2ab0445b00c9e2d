#include "train/run.h"

#include <chrono>
#include <cmath>

#include "base/file.h"
#include "base/log.h"
#include "comm/communicator.h"
#include "comm/environment.h"
#include "plan/precision.h"
#include "report/html.h"
#include "train/monitor.h"
#include "train/peak.h"
#include "train/ranks.h"
#include "train/sample.h"
#include "train/saver.h"
#include "train/signals.h"
#include "train/stragglers.h"
#include "train/trainer.h"

namespace polar {
namespace {

using Clock = std::chrono::steady_clock;

class Run {
 public:
  Run(const Experiment& experiment, const TrainOptions& options)
      : experiment_(experiment),
        program_(options.program),
        group_(process_group_from_environment()),
        ops_(make_ops(device_options(experiment, group_))),
        comm_(make_communicator(group_, comm_options(experiment), *ops_)),
        directory_(open_directory(experiment, options, *comm_)) {
    if (is_first())
      log::open_file(directory_.path() / "log.txt");
    else
      log::set_level(log::Level::warning);  // rank 0 speaks for all
  }
  ~Run() { log::close_file(); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // What it fails with is told to the other ranks.
  ExitCode train();

 private:
  ExitCode train_to_end();
  void prepare();
  void describe() const;
  ExitCode loop();
  ExitCode stop_by_signal();
  ExitCode stop_by_guard(const Trainer::Outcome& outcome);
  void after_step(const Trainer::Outcome& outcome);
  static bool due(int64_t every, int64_t step) { return every > 0 && step % every == 0; }
  // Whether the step queued last has to be done before the next is queued.
  bool needs_this_step() const;
  bool is_over(const Trainer::Outcome& outcome) const;
  bool at_end() const { return trainer_->progress().step == experiment_.train.max_steps; }
  // Evaluates if it is time to after `step`; true if the loss is the lowest so far.
  bool evaluate_if_due(int64_t step);
  DiagnosticValues diagnose(const Trainer::Outcome& outcome);
  void finish();
  void write_sample() const;
  void write_own_report() const;

  // Until the next step: a phase that may last.
  void is_at(const char* phase) const {
    comm_->activity().at(trainer_->progress().step, phase, Activity::Bound::none);
  }
  bool is_first() const { return group_.rank == 0; }
  int64_t steps_done() const { return trainer_->progress().step - first_step_; }  // by this process

  const Experiment& experiment_;
  std::string program_;
  ProcessGroup group_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Communicator> comm_;
  RunDirectory directory_;
  int64_t first_step_ = 0;  // after which this process goes on
  PeakRate peak_;           // what MFU is a share of
  std::optional<Trainer> trainer_;
  std::optional<Saver> saver_;
  std::optional<Monitor> monitor_;
  std::optional<Stragglers> stragglers_;  // of several ranks
  std::optional<Diagnostics> diagnostics_;
  std::optional<Evaluation> evaluation_;  // of this step, if it was due
};

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

ExitCode Run::train() {
  const auto give_up = [&](const std::exception& error, ExitCode code) {
    comm_->give_up(fmt::format("rank {}: {}", group_.rank, error.what()), code);
  };
  try {
    return train_to_end();
  } catch (const Error& error) {
    give_up(error, error.code());
    throw;
  } catch (const std::exception& error) {
    give_up(error, ExitCode::failed);
    throw;
  }
}

ExitCode Run::train_to_end() {
  prepare();
  describe();
  SignalGuard signals;
  const ExitCode code = at_end() ? ExitCode::done : loop();
  log::finish_progress();
  if (code == ExitCode::done) finish();
  return code;
}

void Run::prepare() {
  check_precision(experiment_.precision, *ops_);
  trainer_.emplace(experiment_, *ops_, *comm_);
  // After the trainer has lent its workspace: an unknown card is measured with products.
  peak_ = training_peak(*ops_, experiment_.precision.compute == "bf16" ? DType::bf16 : DType::f32);
  if (directory_.checkpoint()) {
    trainer_->restore(directory_.checkpoint()->dir);
    log::info("continuing from {}", directory_.checkpoint()->dir.string());
  } else {
    trainer_->initialize();
  }
  first_step_ = trainer_->progress().step;
  check_agreement(experiment_, program_, *trainer_, *comm_);
  trainer_->share_weights();
  saver_.emplace(experiment_, directory_.path(), *trainer_, *comm_, checkpoint_files(experiment_),
                 directory_.checkpoint() ? trainer_->progress().step : -1,
                 CheckpointPart{.rank = group_.rank,
                                .world_size = group_.world_size,
                                .token = start_token(*comm_),
                                // Rank 0 gives up before the others do, who wait for it meanwhile.
                                .timeout_seconds = experiment_.distributed.timeout_seconds / 2});
  if (is_first()) directory_.keep_configuration(experiment_);  // only now is it known to work
}

void Run::describe() const {
  const RunPlan& plan = trainer_->plan();
  const ModelConfig& model = experiment_.model;
  log::info("run        {} in {}", experiment_.run.name, directory_.path().string());
  log::info("device     {}", ops_->device_name());
  log::info("model      {}, {} parameters, {} layers, width {}, {:.1f} MFLOP a token",
            model.architecture == Architecture::qwen2 ? "qwen2" : "qwen3",
            plan.model.registry().parameter_count(), model.num_hidden_layers, model.hidden_size,
            1e-6 * flops_per_token(model, experiment_.data.sequence_length));
  if (peak_.flops > 0.0)
    log::info("peak       {:.1f} TFLOP/s {} ({}); MFU is a share of it", 1e-12 * peak_.flops,
              experiment_.precision.compute, peak_.source);
  log::info("data       {} tokens in {} samples of {}", trainer_->training_data().tokens(),
            trainer_->training_data().samples_per_epoch(), experiment_.data.sequence_length);
  log::info("batch      {} tokens a step: {} micro-batches of {} sequences; {} steps",
            experiment_.batch.global_tokens, plan.micro_steps, plan.micro_sequences,
            experiment_.train.max_steps);
  log::info("memory     {} on the device, {} on the host (`polartrain plan` lists them)",
            format_bytes(plan.device.total_bytes()), format_bytes(plan.host.total_bytes()));
  log::info("optimizer\n{}", plan.optimizer_table);
}

ExitCode Run::loop() {
  const RunPlan& plan = trainer_->plan();
  if (is_first()) {
    monitor_.emplace(experiment_, directory_.path(), trainer_->progress().step, plan.optimizer.group_names(),
                     static_cast<int64_t>(plan.device.total_bytes() + plan.host.total_bytes()));
    if (peak_.flops > 0.0)
      monitor_->set_peak(flops_per_token(experiment_.model, experiment_.data.sequence_length),
                         peak_.flops * comm_->world_size());
  }
  if (comm_->world_size() > 1)
    stragglers_.emplace(*comm_, trainer_->progress().step, experiment_.distributed.slow_rank_share);
  if (experiment_.log.diagnostics_every_steps > 0)
    diagnostics_.emplace(experiment_, trainer_->plan(), *comm_);
  trainer_->start();
  const auto interrupted = [] { return SignalGuard::received() != 0; };
  while (!at_end()) {
    const bool queued = trainer_->queue_step(interrupted);
    // The device always has a step to do while the host looks at the one before, except where something is
    // to be done with exactly the weights after this one.
    const int64_t ahead = queued && !needs_this_step() ? 1 : 0;
    // Several ranks must look at the same outcomes between the same steps, whatever their speed.
    while (trainer_->pending() > ahead || (comm_->world_size() == 1 && trainer_->outcome_ready())) {
      const Trainer::Outcome outcome = trainer_->next_outcome();
      after_step(outcome);
      if (is_over(outcome)) {
        trainer_->forget_queued(outcome);
        return stop_by_guard(outcome);
      }
    }
    if (!queued) return stop_by_signal();
  }
  return ExitCode::done;
}

bool Run::needs_this_step() const {
  const int64_t step = trainer_->progress().step;
  return at_end() || due(experiment_.checkpoint.every_steps, step) ||
         due(experiment_.log.diagnostics_every_steps, step) ||
         (trainer_->has_validation() && due(experiment_.evaluation.every_steps, step));
}

bool Run::is_over(const Trainer::Outcome& outcome) const {
  return experiment_.guard.enabled && outcome.consecutive_skips >= experiment_.guard.max_consecutive_skips;
}

void Run::after_step(const Trainer::Outcome& outcome) {
  if (stragglers_) stragglers_->pause();  // until the next step
  const auto confirming = Clock::now();
  is_at("saving");
  if (outcome.applied)
    saver_->confirm();
  else
    log::warning("step {}: loss {:.4g}, gradient norm {:.4g}: skipped by the loss guard ({} in a row)",
                 outcome.step, std::abs(outcome.loss), std::abs(outcome.gradient_norm),
                 outcome.consecutive_skips);
  if (monitor_) monitor_->exclude(seconds_since(confirming));
  StepReport report;
  if (outcome.applied && due(experiment_.log.diagnostics_every_steps, outcome.step))
    report.diagnostics = diagnose(outcome);
  const bool best = evaluate_if_due(outcome.step);
  report.step = outcome.step;
  report.tokens = outcome.tokens;
  report.loss = outcome.loss;
  report.gradient_norm = outcome.gradient_norm;
  report.skipped = outcome.total_skips;
  report.learning_rates = trainer_->plan().optimizer.learning_rates(outcome.step - 1);
  report.data_wait_seconds = trainer_->data_wait_seconds();
  report.evaluation = evaluation_;
  const bool last = outcome.step == experiment_.train.max_steps;
  const bool logged = last || is_over(outcome) || evaluation_ || !report.diagnostics.empty() ||
                      due(experiment_.log.every_steps, outcome.step);
  if (stragglers_ && logged) report.slowest_rank = stragglers_->look(outcome.step);
  if (monitor_) monitor_->step(report, logged);

  const auto begin = Clock::now();
  is_at("saving");
  if (last)
    saver_->save_last(best);
  else if (outcome.applied && (due(experiment_.checkpoint.every_steps, outcome.step) ||
                               (best && experiment_.checkpoint.keep_best)))
    saver_->take(best);
  if (monitor_) monitor_->exclude(seconds_since(begin));
  if (stragglers_) stragglers_->resume();
}

DiagnosticValues Run::diagnose(const Trainer::Outcome& outcome) {
  const auto begin = Clock::now();
  is_at("diagnostics");
  DiagnosticValues values = trainer_->diagnose(*diagnostics_, outcome);
  if (monitor_) monitor_->exclude(seconds_since(begin));
  return values;
}

ExitCode Run::stop_by_signal() {
  log::finish_progress();
  const int signal = SignalGuard::received();
  log::info("{}: saving step {} and stopping",
            signal == 0 ? "another rank was told to stop" : fmt::format("signal {}", signal),
            trainer_->progress().step);
  is_at("saving");
  if (trainer_->progress().step > 0) saver_->save_last(false);
  return ExitCode::stopped_by_signal;
}

ExitCode Run::stop_by_guard(const Trainer::Outcome& outcome) {
  log::finish_progress();
  saver_->finish();
  const int64_t saved = saver_->saved_step();
  log::error(
      "{} steps in a row were skipped by the loss guard: stopped at step {}. {}. Lower the learning "
      "rate, or see the keys of guard in configs/reference.yaml.",
      outcome.consecutive_skips, trainer_->progress().step,
      saved < 0 ? "No checkpoint had been written" : fmt::format("The checkpoint of step {} stands", saved));
  return ExitCode::stopped_by_guard;
}

bool Run::evaluate_if_due(int64_t step) {
  evaluation_.reset();
  const bool last = step == experiment_.train.max_steps;
  if (!trainer_->has_validation() || !(last || due(experiment_.evaluation.every_steps, step))) return false;
  const auto begin = Clock::now();
  evaluation_ = trainer_->evaluate();
  if (monitor_) monitor_->exclude(seconds_since(begin));
  double& best = trainer_->progress().best_val_loss;
  if (evaluation_->loss >= best) return false;
  best = evaluation_->loss;
  return true;
}

void Run::finish() {
  trainer_->complete_weights();
  if (!evaluation_ && trainer_->has_validation()) evaluation_ = trainer_->evaluate();
  if (evaluation_)
    log::info(
        "validation loss {:.4f} nats a token, perplexity {:.2f}{} ({} tokens)", evaluation_->loss,
        evaluation_->perplexity(),
        evaluation_->bits_per_byte ? fmt::format(", {:.4f} bits a byte", *evaluation_->bits_per_byte) : "",
        evaluation_->tokens);
  if (const auto& shards = trainer_->plan().shards; shards && steps_done() > 0)
    log::info("sent       {} bytes a step by a rank, of which {} are gradients and weights",
              comm_->bytes_sent() / static_cast<uint64_t>(steps_done()), trainer_->plan().bytes_sent());
  if (monitor_) log::info("speed      {:.0f} tokens/s (median)", monitor_->median_tokens_per_s());
  log::info("checkpoint {}", checkpoint_dir(directory_.path(), trainer_->progress().step).string());
  is_at("sample and report");
  if (!is_first()) return;
  // The model is trained and saved, whatever becomes of these.
  const auto attempt = [](const char* what, const auto& work) {
    try {
      work();
    } catch (const Error& e) {
      log::warning("the {} failed: {}", what, e.what());
    }
  };
  attempt("sample", [this] { write_sample(); });
  attempt("report", [this] { write_own_report(); });
}

void Run::write_sample() const {
  const std::string text = sample_text(*ops_, trainer_->plan().model, experiment_);
  if (text.empty()) return;
  write_file_atomically(directory_.path() / "sample.txt", text + "\n");
  log::info("sample     {}", text);
}

void Run::write_own_report() const {
  const ReportPaths report = write_report({directory_.path()});
  log::info("report     {}", report.html.string());
  if (!report.png.empty()) log::info("loss curve {}", report.png.string());
}

}  // namespace

ExitCode train(const Experiment& experiment, const TrainOptions& options) {
  return Run(experiment, options).train();
}

}  // namespace polar

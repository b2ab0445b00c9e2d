#include "train/run.h"

#include <chrono>
#include <csignal>

#include "base/file.h"
#include "base/log.h"
#include "report/html.h"
#include "train/monitor.h"
#include "train/sample.h"
#include "train/signals.h"
#include "train/trainer.h"

namespace polar {
namespace {

using Clock = std::chrono::steady_clock;

class Run {
 public:
  Run(const Experiment& experiment, const TrainOptions& options)
      : experiment_(experiment),
        directory_(experiment, options),
        comm_(make_single_communicator()),
        ops_(make_ops({experiment.run.device, static_cast<int>(experiment.run.threads)})) {
    log::open_file(directory_.path() / "log.txt");
  }
  ~Run() { log::close_file(); }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  ExitCode train();

 private:
  void prepare();
  void describe() const;
  ExitCode loop();
  bool due(int64_t every) const;
  std::optional<Evaluation> evaluate_if_due();
  void save(bool last);
  void finish();

  const Experiment& experiment_;
  RunDirectory directory_;
  std::unique_ptr<Communicator> comm_;
  std::unique_ptr<Ops> ops_;
  std::optional<Trainer> trainer_;
  std::optional<Monitor> monitor_;
  std::vector<SmallFile> files_;  // of every checkpoint
  CheckpointWriter writer_;
  std::optional<Evaluation> last_evaluation_;
  int64_t last_saved_ = -1;
  bool new_best_ = false;
};

ExitCode Run::train() {
  prepare();
  describe();
  SignalGuard signals;
  const ExitCode code = trainer_->progress().step < experiment_.train.max_steps ? loop() : ExitCode::done;
  log::finish_progress();
  if (code == ExitCode::done) finish();
  return code;
}

void Run::prepare() {
  if (experiment_.precision.compute == "bf16" && !ops_->supports(DType::bf16))
    fail_usage("precision.compute: found bf16, which '{}' does not compute in; expected fp32",
               ops_->device_name());
  files_ = checkpoint_files(experiment_);
  trainer_.emplace(experiment_, *ops_, *comm_);
  if (directory_.checkpoint()) {
    trainer_->progress() =
        restore(*ops_, trainer_->plan(), trainer_->device_memory(), directory_.checkpoint()->dir);
    last_saved_ = trainer_->progress().step;
    log::info("continuing from {}", directory_.checkpoint()->dir.string());
  } else {
    trainer_->initialize();
  }
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
  log::info("data       {} tokens in {} samples of {}", trainer_->training_data().tokens(),
            trainer_->training_data().samples_per_epoch(), experiment_.data.sequence_length);
  log::info("batch      {} tokens a step: {} micro-batches of {} sequences; {} steps",
            experiment_.batch.global_tokens, plan.micro_steps, plan.micro_sequences,
            experiment_.train.max_steps);
  log::info("memory     {} on the device, {} on the host (`polartrain plan` lists them)",
            format_bytes(plan.device.total_bytes()), format_bytes(plan.host.total_bytes()));
  log::info("optimizer\n{}", plan.optimizer.table());
}

bool Run::due(int64_t every) const {
  return every > 0 && trainer_->progress().step % every == 0;
}

ExitCode Run::loop() {
  monitor_.emplace(
      experiment_, directory_.path(), trainer_->progress().step, trainer_->plan().optimizer.group_names(),
      static_cast<int64_t>(trainer_->plan().device.total_bytes() + trainer_->plan().host.total_bytes()));
  trainer_->start();
  const auto interrupted = [] { return SignalGuard::received() != 0; };
  while (trainer_->progress().step < experiment_.train.max_steps) {
    const std::optional<Trainer::Outcome> outcome = trainer_->step(interrupted);
    if (!outcome) {
      log::finish_progress();
      log::info("signal {}: saving step {} and stopping", SignalGuard::received(), trainer_->progress().step);
      save(true);
      return ExitCode::stopped_by_signal;
    }
    const bool last = trainer_->progress().step == experiment_.train.max_steps;
    if (!outcome->applied)
      log::warning("step {}: loss {:.4g}, gradient norm {:.4g}: skipped by the loss guard ({} in a row)",
                   trainer_->progress().step, outcome->loss, outcome->gradient_norm,
                   outcome->consecutive_skips);
    StepReport report;
    report.step = trainer_->progress().step;
    report.tokens = trainer_->progress().tokens;
    report.loss = outcome->loss;
    report.gradient_norm = outcome->gradient_norm;
    report.skipped = outcome->total_skips;
    report.learning_rates = trainer_->learning_rates();
    report.data_wait_seconds = trainer_->data_wait_seconds();
    report.evaluation = evaluate_if_due();
    monitor_->step(report, last || report.evaluation || due(experiment_.log.every_steps));
    if (outcome->consecutive_skips >= experiment_.guard.max_consecutive_skips && experiment_.guard.enabled) {
      log::finish_progress();
      log::error(
          "{} steps in a row were skipped by the loss guard: stopped at step {}; the last checkpoint stands",
          outcome->consecutive_skips, report.step);
      return ExitCode::stopped_by_guard;
    }
    // While steps are being skipped something is wrong: such a state does not replace a good checkpoint.
    const bool wanted =
        due(experiment_.checkpoint.every_steps) || (new_best_ && experiment_.checkpoint.keep_best);
    if (last || (wanted && outcome->applied)) save(last);
  }
  return ExitCode::done;
}

std::optional<Evaluation> Run::evaluate_if_due() {
  new_best_ = false;
  const bool last = trainer_->progress().step == experiment_.train.max_steps;
  if (!trainer_->has_validation() || !(last || due(experiment_.evaluation.every_steps))) return {};
  const auto begin = Clock::now();
  const Evaluation result = trainer_->evaluate();
  monitor_->exclude(std::chrono::duration<double>(Clock::now() - begin).count());
  if (result.loss < trainer_->progress().best_val_loss) {
    trainer_->progress().best_val_loss = result.loss;
    trainer_->progress().best_step = trainer_->progress().step;
    new_best_ = true;
  }
  last_evaluation_ = result;
  return result;
}

// A failed save in the middle of a run is reported and the run goes on: the checkpoints before it stand. The
// last one must succeed, or the run has failed.
void Run::save(bool last) {
  const auto begin = Clock::now();
  const RunProgress& progress = trainer_->progress();
  try {
    writer_.wait();
  } catch (const Error& e) {
    log::error("{}; the run goes on", e.what());
  }
  if (progress.step != last_saved_) {
    CheckpointWriter::Request request;
    request.run = directory_.path();
    request.step = progress.step;
    request.content = take_snapshot(*ops_, trainer_->plan(), trainer_->device_memory(),
                                    trainer_->host_memory(), experiment_, progress);
    request.content.files = files_;
    request.retention.keep_last = experiment_.checkpoint.keep_last;
    request.retention.keep_every = experiment_.checkpoint.keep_every;
    if (experiment_.checkpoint.keep_best && progress.best_step >= 0)
      request.retention.best = progress.best_step;
    writer_.start(std::move(request));
    if (last || !experiment_.checkpoint.background) {
      try {
        writer_.wait();
      } catch (const Error& e) {
        if (last) throw;
        log::error("{}; the run goes on", e.what());
        return;
      }
    }
    last_saved_ = progress.step;
  }
  if (monitor_) monitor_->exclude(std::chrono::duration<double>(Clock::now() - begin).count());
}

void Run::finish() {
  const std::filesystem::path checkpoint = checkpoint_dir(directory_.path(), trainer_->progress().step);
  if (!last_evaluation_ && trainer_->has_validation()) last_evaluation_ = trainer_->evaluate();
  if (last_evaluation_) {
    const Evaluation& e = *last_evaluation_;
    log::info("validation loss {:.4f} nats a token, perplexity {:.2f}{} ({} tokens)", e.loss, e.perplexity(),
              e.bits_per_byte ? fmt::format(", {:.4f} bits a byte", *e.bits_per_byte) : "", e.tokens);
  }
  if (const std::string text = sample_text(*ops_, trainer_->plan().model, experiment_); !text.empty()) {
    write_file_atomically(directory_.path() / "sample.txt", text + "\n");
    log::info("sample     {}", text);
  }
  if (monitor_) log::info("speed      {:.0f} tokens/s (median)", monitor_->median_tokens_per_s());
  log::info("checkpoint {}", checkpoint.string());
  const ReportPaths report = write_report({directory_.path()});
  log::info("report     {}", report.html.string());
  if (!report.png.empty()) log::info("loss curve {}", report.png.string());
}

}  // namespace

ExitCode train(const Experiment& experiment, const TrainOptions& options) {
  return Run(experiment, options).train();
}

}  // namespace polar

#include "train/saver.h"

#include <cmath>
#include <utility>

#include "base/log.h"

namespace polar {

Saver::Saver(const Experiment& experiment, const std::filesystem::path& run, Trainer& trainer,
             std::vector<SmallFile> files, int64_t saved_step, CheckpointPart part)
    : experiment_(experiment),
      run_(run),
      trainer_(trainer),
      files_(std::move(files)),
      part_(std::move(part)),
      saved_step_(saved_step),
      confirmed_(trainer.progress()) {}

void Saver::take(bool best) {
  wait();  // the snapshot buffers may still be in use
  RunProgress& progress = trainer_.progress();
  if (best) progress.best_step = progress.step;
  CheckpointWriter::Request request;
  request.run = run_;
  request.step = progress.step;
  request.content = trainer_.snapshot();
  request.content.files = files_;
  request.content.part = part_;
  request.retention.keep_last = experiment_.checkpoint.keep_last;
  request.retention.keep_every = experiment_.checkpoint.keep_every;
  if (experiment_.checkpoint.keep_best && progress.best_step >= 0)
    request.retention.best = progress.best_step;
  pending_ = std::move(request);
  writing_ = progress;
}

void Saver::confirm() {
  if (!pending_) return;
  write();
  if (!experiment_.checkpoint.background) wait();
}

void Saver::write() {
  writer_.start(*std::exchange(pending_, std::nullopt));
}

// Waits for the save under way, if there is one. A failed one takes back what it would have made the best.
void Saver::wait() {
  if (!writer_.busy()) return;
  try {
    writer_.wait();
    saved_step_ = writing_.step;
    confirmed_ = writing_;
  } catch (const Error& e) {
    log::error("{}; the run goes on", e.what());
    trainer_.progress().best_step = confirmed_.best_step;
    trainer_.progress().best_val_loss = confirmed_.best_val_loss;
  }
}

void Saver::save_last(bool best) {
  wait();
  if (trainer_.progress().step == saved_step_) return;
  check_finite();
  take(best);
  write();
  writer_.wait();
  saved_step_ = writing_.step;
}

void Saver::check_finite() {
  if (trainer_.parameters_are_finite()) return;
  throw Error(fmt::format("the weights after step {} are not finite: not saved. Lower the learning rate.",
                          trainer_.progress().step),
              ExitCode::stopped_by_guard);
}

}  // namespace polar

#include "train/saver.h"

#include <array>
#include <chrono>
#include <cmath>
#include <span>
#include <thread>
#include <utility>

#include "base/log.h"

namespace polar {

Saver::Saver(const Experiment& experiment, const std::filesystem::path& run, Trainer& trainer,
             Communicator& comm, std::vector<SmallFile> files, int64_t saved_step, CheckpointPart part)
    : experiment_(experiment),
      run_(run),
      trainer_(trainer),
      comm_(comm),
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
  // What an earlier save of the same step has left is not taken for a part of this one.
  request.content.part.token += fmt::format("-{}", ++saves_);
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
  const std::string failure = outcome();
  if (failure.empty()) {
    saved_step_ = writing_.step;
    confirmed_ = writing_;
    return;
  }
  if (comm_.rank() == 0) log::error("{}; the run goes on", failure);
  trainer_.progress().best_step = confirmed_.best_step;
  trainer_.progress().best_val_loss = confirmed_.best_val_loss;
}

std::string Saver::own_outcome() {
  try {
    writer_.wait();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}

// Waits until the writers of rank 0, or of all others, are done. However long that takes: the ranks ask each
// other again and again, so that no operation between them lasts as long as a disk does.
void Saver::await_writers(bool of_first) {
  if (comm_.world_size() == 1) return;
  while (true) {
    std::array<double, 1> busy{(comm_.rank() == 0) == of_first && !writer_.done() ? 1.0 : 0.0};
    comm_.all_reduce_sum(std::span<double>(busy));
    if (busy[0] == 0.0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

// Of the save under way, when it is over on all ranks: why it has failed, or nothing.
std::string Saver::outcome() {
  const bool gathers = comm_.rank() == 0;
  await_writers(false);
  // First the parts of the others, so that rank 0 waits for none that has failed; one that is gone is an
  // Error here.
  const std::vector<std::string> parts = comm_.all_gather_text(gathers ? "" : own_outcome());
  for (size_t rank = 1; rank < parts.size(); ++rank) {
    if (parts[rank].empty()) continue;
    writer_.give_up();
    own_outcome();
    return fmt::format("rank {}: {}", rank, parts[rank]);
  }
  await_writers(true);
  const std::string whole = comm_.all_gather_text(gathers ? own_outcome() : "").front();
  return whole.empty() || comm_.world_size() == 1 ? whole : "rank 0: " + whole;
}

void Saver::save_last(bool best) {
  wait();
  if (trainer_.progress().step == saved_step_) return;
  check_finite();
  take(best);
  write();
  if (const std::string failure = outcome(); !failure.empty()) fail("{}", failure);
  saved_step_ = writing_.step;
}

void Saver::check_finite() {
  if (trainer_.parameters_are_finite()) return;
  throw Error(fmt::format("the weights after step {} are not finite: not saved. Lower the learning rate.",
                          trainer_.progress().step),
              ExitCode::stopped_by_guard);
}

}  // namespace polar

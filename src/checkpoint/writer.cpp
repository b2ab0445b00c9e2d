#include <chrono>

#include "base/error.h"
#include "base/log.h"
#include "checkpoint/store.h"

namespace polar {
namespace {

constexpr auto kLastPatience = std::chrono::seconds(3);

}  // namespace

void save_and_retain(const CheckpointWriter::Request& request) {
  try {
    save_checkpoint(request.run, request.step, request.content);
  } catch (const std::exception& e) {
    fail("saving checkpoint step {}: {}", request.step, e.what());
  }
  if (request.content.part.rank > 0) return;  // rank 0 deletes
  try {
    Retention retention = request.retention;
    retention.saved = request.step;
    apply_retention(request.run, retention);
  } catch (const std::exception& e) {
    log::warning("checkpoint step {} is saved, but deleting older ones failed: {}", request.step, e.what());
  }
}

CheckpointWriter::~CheckpointWriter() {
  const auto patience = std::chrono::steady_clock::now() + kLastPatience;
  while (busy() && !done_ && std::chrono::steady_clock::now() < patience)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  give_up();
  try {
    wait();
  } catch (const std::exception& e) {
    log::error("{}", e.what());
  }
}

void CheckpointWriter::start(Request request) {
  wait();
  done_ = give_up_ = false;
  request.content.part.give_up = &give_up_;
  thread_ = std::thread([this, work = std::move(request)] {
    try {
      save_and_retain(work);
    } catch (...) {
      error_ = std::current_exception();  // read after join() only
    }
    done_ = true;
  });
}

void CheckpointWriter::wait() {
  if (thread_.joinable()) thread_.join();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace polar

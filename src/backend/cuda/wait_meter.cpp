#include "backend/cuda/wait_meter.h"

#include <utility>

namespace polar::cuda {
namespace {

constexpr size_t kMostOpen = 4096;  // a host that never asks must not fill the memory

}  // namespace

void WaitMeter::hold(const Stream& stream, const Event& event) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  CUDA_CHECK(cudaStreamIsCapturing(stream.get(), &status));
  if (status != cudaStreamCaptureStatusNone || open_.size() >= kMostOpen) return stream.wait(event.get());
  if (free_.empty()) free_.emplace_back();
  Span span = std::move(free_.back());
  free_.pop_back();
  span.before.record(stream);
  stream.wait(event.get());
  span.after.record(stream);
  open_.push_back(std::move(span));
}

double WaitMeter::seconds() {
  collect();
  return seconds_;
}

void WaitMeter::collect() {
  while (!open_.empty() && open_.front().after.done()) {
    Span& span = open_.front();
    seconds_ += 1e-3 * static_cast<double>(span.after.milliseconds_since(span.before));
    free_.push_back(std::move(span));
    open_.pop_front();
  }
}

}  // namespace polar::cuda

// What lets the host run ahead: marks are events, uploads go through a second stream, repeated work becomes a
// CUDA graph.
#include <optional>

#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/event_mark.h"

namespace polar::cuda {
// The first run is not captured: libraries load their kernels in it, and products are measured. What it does
// that no graph can hold (CudaOps::waits_) keeps the work from ever being captured.
class CudaOps::GraphWork final : public Repeated {
 public:
  GraphWork(CudaOps& ops, std::function<void()> work) : Repeated(std::move(work)), ops_(ops) {}

  void run() override {
    if (!seen_) return run_first();
    if (!capturable_) return work_();
    if (!graph_) graph_.emplace(Graph::capture(ops_.stream_, work_));
    graph_->launch(ops_.stream_);
  }

 private:
  void run_first() {
    ops_.waits_ = false;
    work_();
    capturable_ = !ops_.waits_;
    seen_ = true;
  }
  CudaOps& ops_;
  bool seen_ = false, capturable_ = false;
  std::optional<Graph> graph_;
};

std::unique_ptr<Mark> CudaOps::make_mark() {
  use_device(device_);
  return std::make_unique<EventMark>();
}

void CudaOps::set(Mark& mark) {
  event_of(mark).record(stream_);
}

bool CudaOps::reached(const Mark& mark) {
  return event_of(mark).done();
}

void CudaOps::wait(const Mark& mark) {
  mark.wait();  // which of a collective is an Error if it failed
}

void CudaOps::follow(const Mark& mark) {
  as_event_mark(mark).hold(stream_);
}

void CudaOps::upload_ahead(const Tensor& to, const void* from, const Mark& after, Mark& done) {
  upload_stream_.wait(event_of(after).get());
  CUDA_CHECK(cudaMemcpyAsync(to.data, from, to.bytes(), cudaMemcpyHostToDevice, upload_stream_.get()));
  event_of(done).record(upload_stream_);
}

void CudaOps::download_queued(void* to, const Tensor& from) {
  CUDA_CHECK(cudaMemcpyAsync(to, from.data, from.bytes(), cudaMemcpyDeviceToHost, stream_.get()));
}

std::unique_ptr<Repeated> CudaOps::repeat(std::function<void()> work) {
  return std::make_unique<GraphWork>(*this, std::move(work));
}

}  // namespace polar::cuda

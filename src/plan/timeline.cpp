#include "plan/timeline.h"

#include <algorithm>

#include "base/error.h"

namespace polar {
namespace {

void check(const StepTimes& times) {
  if (times.micro_steps < 1 || times.stages.empty() || times.buffers == 0)
    fail("run_timeline: found {} micro-steps of {} stages and {} buffers, expected at least 1 of each",
         times.micro_steps, times.stages.size(), times.buffers);
  for (const BucketTimes& bucket : times.buckets)
    if (std::max(bucket.first_use, bucket.last_gradient) >= times.stages.size())
      fail("run_timeline: found a bucket of stages {} and {}, expected stages below {}", bucket.first_use,
           bucket.last_gradient, times.stages.size());
}

// One way of a bucket: when it has to be there or may set out, and what it costs.
struct Journey {
  size_t stage = 0;
  double travel = 0.0, pack = 0.0, unpack = 0.0;
};

class Lanes {
 public:
  explicit Lanes(const StepTimes& times) : times_(times), buffers_(times.buffers) {
    const size_t last = times.stages.size() - 1;
    for (const BucketTimes& b : times.buckets) {
      weights_.push_back({times.overlap ? b.first_use : 0, b.all_gather, b.pack_weights, b.unpack_weights});
      gradients_.push_back(
          {times.overlap ? b.last_gradient : last, b.reduce_scatter, b.pack_gradients, b.unpack_gradients});
    }
    const auto earlier = [](const Journey& a, const Journey& b) { return a.stage < b.stage; };
    std::stable_sort(weights_.begin(), weights_.end(), earlier);
    std::stable_sort(gradients_.begin(), gradients_.end(), earlier);
  }

  Timeline run() {
    while (weights_sent_ < std::min(weights_.size(), buffers_.size())) send_next_weights();
    compute(times_.begin);
    for (int64_t micro = 0; micro < times_.micro_steps; ++micro)
      micro_step(times_.reduce_every_micro_step || micro + 1 == times_.micro_steps);
    for (size_t turn = 0; turn < buffers_.size(); ++turn) free_buffer(turn, out_.exposed_gradients);
    now_ += times_.scalars;
    out_.exposed_scalars = times_.scalars;
    compute(times_.update);
    out_.step = now_;
    return out_;
  }

 private:
  struct Buffer {
    double arrived = 0.0;
    const Journey* journey = nullptr;  // what travels in it
  };

  void micro_step(bool reduces) {
    size_t next = 0;
    for (size_t stage = 0; stage < times_.stages.size(); ++stage) {
      for (; weights_received_ < weights_.size() && weights_[weights_received_].stage == stage;
           ++weights_received_) {
        free_buffer(weights_received_ % buffers_.size(), out_.exposed_weights);
        if (weights_sent_ < weights_.size()) send_next_weights();
      }
      compute(times_.stages[stage]);
      for (; reduces && next < gradients_.size() && gradients_[next].stage == stage; ++next) {
        const size_t turn = next % buffers_.size();
        free_buffer(turn, out_.exposed_gradients);
        send(gradients_[next], turn, out_.reduce_scatter);
      }
    }
  }

  void send_next_weights() {
    send(weights_[weights_sent_], weights_sent_ % buffers_.size(), out_.all_gather);
    ++weights_sent_;
  }

  void send(const Journey& journey, size_t turn, double& travelled) {
    compute(journey.pack);
    link_free_ = std::max(link_free_, now_) + journey.travel;
    travelled += journey.travel;
    buffers_[turn] = {link_free_, &journey};
  }

  // What travels in it has arrived and is unpacked.
  void free_buffer(size_t turn, double& exposed) {
    Buffer& buffer = buffers_[turn];
    if (buffer.journey == nullptr) return;
    const double waits = std::max(0.0, buffer.arrived - now_);
    now_ += waits;
    exposed += waits;
    compute(buffer.journey->unpack);
    buffer.journey = nullptr;
  }

  void compute(double seconds) {
    now_ += seconds;
    out_.compute += seconds;
  }

  const StepTimes& times_;
  std::vector<Journey> weights_, gradients_;  // in the order of travelling
  std::vector<Buffer> buffers_;
  size_t weights_sent_ = 0, weights_received_ = 0;
  double now_ = 0.0, link_free_ = 0.0;
  Timeline out_;
};

}  // namespace

Timeline run_timeline(const StepTimes& times) {
  check(times);
  return Lanes(times).run();
}

}  // namespace polar

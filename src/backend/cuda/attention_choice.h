// Which engine does which case of attention: our own kernels (native) or another engine (cuDNN's).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "backend/cuda/attention_engine.h"
#include "backend/cuda/runtime.h"

namespace polar::cuda {

enum class EngineWanted : uint8_t {
  native,     // always our own kernels
  cudnn,      // cuDNN where it can do the case, else native
  automatic,  // both are measured when a case is first met; the faster one does it
};
// "native", "cudnn", "auto"; anything else is a usage error.
EngineWanted engine_wanted(const std::string& name);
// The same for this binary: usage error for cudnn where it is not compiled in; auto is native then.
EngineWanted wanted_here(const std::string& name);

class AttentionChoice {
 public:
  // `other` null: everything is native. `file` keeps what was measured, so that a run that goes on computes
  // the same bits; empty: each process measures. `gpu` names what the measurements hold for.
  AttentionChoice(EngineWanted wanted, std::unique_ptr<AttentionEngine> other, std::string file,
                  const std::string& gpu);

  // Queues the same operation on `stream` by one engine or the other. It overwrites its outputs alone: it may
  // be done several times.
  struct Candidates {
    std::function<void()> native, other;
  };
  // Does the operation with the engine chosen for its case, and chooses one first if this is its first time.
  // While a graph is captured nothing is planned or measured: a case first met there is done natively then.
  void run(const AttentionCase& c, size_t workspace_bytes, const Stream& stream,
           const Candidates& candidates);
  AttentionEngine* other() const { return other_.get(); }
  EngineWanted wanted() const { return wanted_; }
  // The cases met so far; true: done by the other engine.
  const std::map<AttentionCase, bool>& chosen() const { return chosen_; }
  // How many cases were measured so far: for tests and benchmarks.
  int64_t measured() const { return measured_; }

 private:
  bool choose_other(const AttentionCase& c, size_t workspace_bytes, const Stream& stream,
                    const Candidates& candidates);
  bool measure_other_faster(const AttentionCase& c, const Stream& stream, const Candidates& candidates);
  void read_choices();
  void keep(const AttentionCase& c, bool other);

  EngineWanted wanted_;
  std::unique_ptr<AttentionEngine> other_;
  std::string file_, owner_;
  std::map<AttentionCase, bool> chosen_;
  std::map<std::string, bool> kept_;  // in the file, by the case's key there
  int64_t measured_ = 0;
};

// For the calling thread's current GPU, with cuDNN where it is wanted: usage error if it was demanded and
// cannot be had; with auto a line in the log.
std::unique_ptr<AttentionChoice> make_attention_choice(const std::string& engine, const std::string& file,
                                                       const std::string& gpu);

}  // namespace polar::cuda

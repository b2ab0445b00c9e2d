#include "backend/cuda/attention_choice.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

namespace polar::cuda {
namespace {

constexpr const char* kTitle = "polartrain attention choices 1";
constexpr const char* kOther = "cudnn";
constexpr int kRounds = 3, kRunsOfARound = 3;

bool is_capturing(const Stream& stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  CUDA_CHECK(cudaStreamIsCapturing(stream.get(), &status));
  return status != cudaStreamCaptureStatusNone;
}

float milliseconds_of(const std::function<void()>& queue, const Stream& stream) {
  const Event begin(EventKind::timing), end(EventKind::timing);
  begin.record(stream);
  for (int i = 0; i < kRunsOfARound; ++i) queue();
  end.record(stream);
  end.synchronize();
  return end.milliseconds_since(begin) / kRunsOfARound;
}

// A case in the file: everything that it is told apart by, without spaces.
std::string key_of(const AttentionCase& c) {
  return fmt::format("{},{},{}x{}x{},{}/{}x{},w{},s{:a},{:d}{:d},{},{},{},{},{},{},{},{}",
                     c.backward ? "backward" : "forward", name_of(c.dtype), c.batch, c.query_time, c.key_time,
                     c.heads_q, c.heads_kv, c.head_dim, c.window, c.scale, c.documents, c.lse, c.q_stride,
                     c.k_stride, c.v_stride, c.output_stride, c.doutput_stride, c.dq_stride, c.dk_stride,
                     c.dv_stride);
}

}  // namespace

EngineWanted engine_wanted(const std::string& name) {
  if (name == "native") return EngineWanted::native;
  if (name == "cudnn") return EngineWanted::cudnn;
  if (name == "auto") return EngineWanted::automatic;
  fail_usage("attention.engine: found '{}', expected native, cudnn or auto", name);
}

EngineWanted wanted_here(const std::string& name) {
  const EngineWanted wanted = engine_wanted(name);
  if (cudnn_compiled_in()) return wanted;
  if (wanted == EngineWanted::cudnn)
    fail_usage(
        "attention.engine: cudnn, but this binary was built without it; `tools/setup.sh --cudnn` brings what "
        "it is built with (then build again), native and auto need nothing");
  return EngineWanted::native;
}

std::unique_ptr<AttentionChoice> make_attention_choice(const std::string& engine, const std::string& file,
                                                       const std::string& gpu) {
  EngineWanted wanted = wanted_here(engine);
  std::unique_ptr<AttentionEngine> cudnn;
  if (wanted != EngineWanted::native) {
    std::string problem;
    cudnn = make_cudnn_attention(problem);
    if (cudnn == nullptr && wanted == EngineWanted::cudnn)
      fail_usage("attention.engine: cudnn, but {}", problem);
    if (cudnn == nullptr) log::info("attention  native: {}", problem);
  }
  return std::make_unique<AttentionChoice>(wanted, std::move(cudnn), file, gpu);
}

AttentionChoice::AttentionChoice(EngineWanted wanted, std::unique_ptr<AttentionEngine> other,
                                 std::string file, const std::string& gpu)
    : wanted_(wanted), other_(std::move(other)), file_(std::move(file)) {
  if (wanted_ == EngineWanted::native) other_ = nullptr;
  if (other_ == nullptr) return;
  owner_ = fmt::format("{}, {}", other_->name(), gpu);
  if (wanted_ == EngineWanted::automatic) read_choices();
}

void AttentionChoice::run(const AttentionCase& c, size_t workspace_bytes, const Stream& stream,
                          const Candidates& candidates) {
  if (other_ != nullptr && choose_other(c, workspace_bytes, stream, candidates))
    candidates.other();
  else
    candidates.native();
}

bool AttentionChoice::choose_other(const AttentionCase& c, size_t workspace_bytes, const Stream& stream,
                                   const Candidates& candidates) {
  if (const auto known = chosen_.find(c); known != chosen_.end()) return known->second;
  if (is_capturing(stream)) return false;
  if (const std::string why = other_->refusal(c, workspace_bytes); !why.empty()) {
    log::info("{}: native, for {} cannot: {}", c.text(), other_->name(), why);
    return chosen_[c] = false;
  }
  if (wanted_ == EngineWanted::cudnn) return chosen_[c] = true;
  if (const auto kept = kept_.find(key_of(c)); kept != kept_.end()) return chosen_[c] = kept->second;
  const bool other = measure_other_faster(c, stream, candidates);
  keep(c, other);
  return chosen_[c] = other;
}

// The best of some rounds of each, in turns: what else the GPU does meets both.
bool AttentionChoice::measure_other_faster(const AttentionCase& c, const Stream& stream,
                                           const Candidates& candidates) {
  ++measured_;
  float native = std::numeric_limits<float>::infinity(), other = native;
  try {
    candidates.native();
    candidates.other();
    for (int round = 0; round < kRounds; ++round) {
      native = std::min(native, milliseconds_of(candidates.native, stream));
      other = std::min(other, milliseconds_of(candidates.other, stream));
    }
  } catch (const Error& error) {
    log::warning("{}: native, for measuring failed: {}", c.text(), error.what());
    return false;
  }
  log::info("{}: native {:.3f} ms, {} {:.3f} ms", c.text(), native, other_->name(), other);
  return other < native;
}

void AttentionChoice::read_choices() {
  if (file_.empty() || !std::filesystem::exists(file_)) return;
  std::istringstream file(read_file(file_));
  std::string line, key, engine, end;
  if (!std::getline(file, line) || line != kTitle || !std::getline(file, line) || line != owner_) {
    log::info("{} is not of {}: attention engines are chosen anew", file_, owner_);
    return;
  }
  while (std::getline(file, line)) {
    std::istringstream words(line);
    if (words >> key >> engine >> end && end == ".") kept_[key] = engine == kOther;
  }
}

void AttentionChoice::keep(const AttentionCase& c, bool other) {
  kept_[key_of(c)] = other;
  if (file_.empty()) return;
  std::string text = fmt::format("{}\n{}\n", kTitle, owner_);
  for (const auto& [key, is_other] : kept_)
    text +=
        fmt::format("{} {} .\n", key, is_other ? kOther : "native");  // a line that was cut off is no line
  try {
    write_file_atomically(file_, text);
  } catch (const Error& error) {
    log::warning("the choice of attention engines is not kept: {}", error.what());
    file_.clear();
  }
}

}  // namespace polar::cuda

#include "comm/activity.h"

#include "comm/store_protocol.h"

namespace polar {
namespace {

constexpr uint8_t kFormat = 1;

int64_t milliseconds(double seconds) {
  return static_cast<int64_t>(1e3 * seconds);
}

}  // namespace

void Activity::at(int64_t step, const char* phase, Bound bound) {
  const std::lock_guard lock(mutex_);
  step_ = step;
  phase_ = phase;
  bound_ = bound;
  phase_since_ = progress_ = Clock::now();
}

void Activity::moved() {
  const std::lock_guard lock(mutex_);
  progress_ = Clock::now();
}

void Activity::begin(Lane lane, uint64_t number, std::string_view name) {
  const std::lock_guard lock(mutex_);
  Entry& entry = this->entry(lane);
  entry.begun = number;
  entry.name.assign(name);
  entry.since = progress_ = Clock::now();
}

void Activity::end(Lane lane, uint64_t number) {
  const std::lock_guard lock(mutex_);
  Entry& entry = this->entry(lane);
  entry.done = number;
  entry.since = progress_ = Clock::now();
}

Activity::State Activity::state() const {
  const std::lock_guard lock(mutex_);
  const Clock::time_point now = Clock::now();
  const auto age = [&](Clock::time_point since) {
    return std::chrono::duration<double>(now - since).count();
  };
  State state;
  state.step = step_;
  state.phase = phase_;
  state.bound = bound_;
  state.phase_age = age(phase_since_);
  state.progress_age = age(progress_);
  for (size_t i = 0; i < kLanes; ++i)
    state.operations[i] = {entries_[i].begun, entries_[i].done, entries_[i].name, age(entries_[i].since)};
  return state;
}

std::string encode(const Activity::State& state) {
  store_protocol::Writer writer;
  writer.byte(kFormat);
  writer.i64(state.step);
  writer.string(state.phase);
  writer.byte(static_cast<uint8_t>(state.bound));
  writer.i64(milliseconds(state.phase_age));
  writer.i64(milliseconds(state.progress_age));
  for (const Activity::Operation& operation : state.operations) {
    writer.i64(static_cast<int64_t>(operation.begun));
    writer.i64(static_cast<int64_t>(operation.done));
    writer.string(operation.name);
    writer.i64(milliseconds(operation.age));
  }
  return writer.bytes();
}

std::optional<Activity::State> decode_activity(std::string_view bytes) {
  store_protocol::Reader reader(bytes);
  if (reader.byte() != kFormat) return std::nullopt;
  Activity::State state;
  bool whole = true;
  const auto number = [&] {
    const std::optional<int64_t> value = reader.i64();
    whole = whole && value;
    return value.value_or(0);
  };
  const auto text = [&] {
    std::optional<std::string> value = reader.string();
    whole = whole && value;
    return value.value_or("");
  };
  state.step = number();
  state.phase = text();
  state.bound = reader.byte() == static_cast<uint8_t>(Activity::Bound::timeout) ? Activity::Bound::timeout
                                                                                : Activity::Bound::none;
  state.phase_age = 1e-3 * static_cast<double>(number());
  state.progress_age = 1e-3 * static_cast<double>(number());
  for (Activity::Operation& operation : state.operations) {
    operation.begun = static_cast<uint64_t>(number());
    operation.done = static_cast<uint64_t>(number());
    operation.name = text();
    operation.age = 1e-3 * static_cast<double>(number());
  }
  return whole && reader.at_end() ? std::optional(state) : std::nullopt;
}

}  // namespace polar

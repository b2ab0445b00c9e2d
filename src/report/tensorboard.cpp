#include "report/tensorboard.h"

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace polar {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[byte] = crc;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kCrcTable = make_crc_table();

// The low `count` bytes of `value`, least significant first.
std::string little_endian(uint64_t value, int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
  return bytes;
}

// Protobuf's base-128 number, and its fields: the key (field number, wire type), then the value.
std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

std::string varint_field(uint32_t field, uint64_t value) {
  return varint(field << 3) + varint(value);
}

std::string double_field(uint32_t field, double value) {
  return varint(field << 3 | 1) + little_endian(std::bit_cast<uint64_t>(value), 8);
}

std::string float_field(uint32_t field, float value) {
  return varint(field << 3 | 5) + little_endian(std::bit_cast<uint32_t>(value), 4);
}

std::string bytes_field(uint32_t field, std::string_view value) {
  return varint(field << 3 | 2) + varint(value.size()) + std::string(value);
}

// Field numbers of tensorflow.Event and the messages in it (event.proto, summary.proto).
enum EventField : uint32_t { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7 };
enum SummaryField : uint32_t { kValue = 1 };
enum ValueField : uint32_t { kTag = 1, kSimpleValue = 2 };
enum SessionLogField : uint32_t { kStatus = 1 };
constexpr uint64_t kSessionStart = 1;

std::string event_header(int64_t step, double time) {
  return double_field(kWallTime, time) + varint_field(kStep, static_cast<uint64_t>(step));
}

std::filesystem::path free_path(const std::filesystem::path& directory, double time) {
  const std::string name = fmt::format("events.out.tfevents.{:010}.polartrain", static_cast<int64_t>(time));
  std::filesystem::path path = directory / fmt::format("{}.0", name);
  for (int count = 1; std::filesystem::exists(path); ++count)
    path = directory / fmt::format("{}.{}", name, count);
  return path;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFFu;
  for (const char c : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xFF];
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u;
}

Scalars tensorboard_scalars(const StepMetrics& metrics) {
  Scalars scalars;
  const auto add = [&](const char* tag, const std::optional<double>& value) {
    if (value) scalars.emplace_back(tag, *value);
  };
  add("train/loss", metrics.loss);
  for (const auto& [group, rate] : metrics.lr) scalars.emplace_back("train/lr/" + group, rate);
  add("train/grad_norm", metrics.grad_norm);
  add("train/skipped", static_cast<double>(metrics.skipped));
  add("train/tokens", static_cast<double>(metrics.tokens));
  add("val/loss", metrics.val_loss);
  add("val/perplexity", metrics.val_perplexity);
  add("val/bits_per_byte", metrics.val_bits_per_byte);
  for (const auto& [quantity, values] : metrics.diagnostics)
    for (const auto& [name, value] : values) scalars.emplace_back(quantity + "/" + name, value);
  add("system/tokens_per_s", metrics.tokens_per_s);
  add("system/mfu", metrics.mfu);
  add("system/data_wait_share", metrics.data_wait_share);
  add("system/memory_bytes", static_cast<double>(metrics.memory_bytes));
  return scalars;
}

EventWriter::EventWriter(const std::filesystem::path& directory, double time, int64_t first_step) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) fail("cannot make the directory {}: {}", directory.string(), error.message());
  path_ = free_path(directory, time);
  file_.open(path_, std::ios::binary);
  if (!file_) fail("cannot open {} for writing: {}", path_.string(), std::strerror(errno));
  write_record(double_field(kWallTime, time) + bytes_field(kFileVersion, "brain.Event:2"));
  write_record(event_header(first_step, time) +
               bytes_field(kSessionLog, varint_field(kStatus, kSessionStart)));
}

void EventWriter::write(int64_t step, double time, const Scalars& scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars)
    summary +=
        bytes_field(kValue, bytes_field(kTag, tag) + float_field(kSimpleValue, static_cast<float>(value)));
  write_record(event_header(step, time) + bytes_field(kSummary, summary));
}

void EventWriter::write_record(const std::string& data) {
  const std::string length = little_endian(data.size(), 8);
  file_ << length << little_endian(masked_crc32c(length), 4) << data << little_endian(masked_crc32c(data), 4)
        << std::flush;
  if (!file_) fail("cannot write to {}: {}", path_.string(), std::strerror(errno));
}

}  // namespace polar

// What store_server and store_client say to each other. Integers are little-endian.
//
//   client, once:   magic (8 bytes), u32 version, u32 size, run id
//   from then on:   u32 size, then `size` bytes: a request (client) or a reply (server), one each in turn
//   request:        u8 Operation, then its fields: strings as u32 size and bytes, numbers as i64
//   reply:          u8 Status, then what the operation returns, or for `refused` the reason as a string
// The server answers the greeting with a reply too. After `refused` it closes the connection.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace polar::store_protocol {

inline constexpr std::string_view kMagic = "polarKV\n";
inline constexpr uint32_t kVersion = 1;
inline constexpr size_t kGreetingHead = kMagic.size() + 2 * sizeof(uint32_t);
inline constexpr uint32_t kMaxRunId = 1024;
inline constexpr uint32_t kMaxMessage = 16u << 20;  // a reply or a request; values of the store are small

enum class Operation : uint8_t { set = 1, get, try_get, add, compare_and_set, remove, keys, values };
enum class Status : uint8_t {
  done = 0,
  absent,     // try_get: no such key; compare_and_set: found something else
  timed_out,  // get
  failed,     // the request cannot be carried out (reason); the connection stays
  refused,    // reason; the connection ends
};

class Writer {
 public:
  void byte(uint8_t value) { bytes_.push_back(static_cast<char>(value)); }
  void u32(uint32_t value) { integer(value); }
  void i64(int64_t value) { integer(static_cast<uint64_t>(value)); }
  void raw(std::string_view value) { bytes_.append(value); }
  void string(std::string_view value) {
    u32(static_cast<uint32_t>(value.size()));
    bytes_.append(value);
  }
  const std::string& bytes() const { return bytes_; }
  // The bytes as a message: their number before them.
  std::string message() const {
    Writer framed;
    framed.string(bytes_);
    return framed.bytes_;
  }

 private:
  template <class T>
  void integer(T value) {
    for (size_t i = 0; i < sizeof(T); ++i)
      bytes_.push_back(static_cast<char>(static_cast<uint8_t>(value >> (8 * i))));
  }
  std::string bytes_;
};

// Reads fields in turn; nothing where the bytes end too early. The bytes must outlive it.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  std::optional<uint8_t> byte() { return integer<uint8_t>(); }
  std::optional<uint32_t> u32() { return integer<uint32_t>(); }
  std::optional<int64_t> i64() {
    const auto value = integer<uint64_t>();
    return value ? std::optional(static_cast<int64_t>(*value)) : std::nullopt;
  }
  std::optional<std::string> string() {
    const auto size = u32();
    if (!size || *size > bytes_.size()) return std::nullopt;
    std::string value(bytes_.substr(0, *size));
    bytes_.remove_prefix(*size);
    return value;
  }
  bool at_end() const { return bytes_.empty(); }

 private:
  template <class T>
  std::optional<T> integer() {
    if (bytes_.size() < sizeof(T)) return std::nullopt;
    T value = 0;
    for (size_t i = 0; i < sizeof(T); ++i)
      value =
          static_cast<T>(value | static_cast<T>(static_cast<T>(static_cast<uint8_t>(bytes_[i])) << (8 * i)));
    bytes_.remove_prefix(sizeof(T));
    return value;
  }
  std::string_view bytes_;
};

}  // namespace polar::store_protocol

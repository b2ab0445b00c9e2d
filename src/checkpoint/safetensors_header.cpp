#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/error.h"

namespace polar {
namespace {

using nlohmann::json;

constexpr std::string_view kTypes = "F32, F64, BF16, F16, I32, I64";

std::optional<StoredType> parse_type(std::string_view name) {
  for (StoredType type : {StoredType::f32, StoredType::f64, StoredType::bf16, StoredType::f16,
                          StoredType::i32, StoredType::i64})
    if (name == name_of(type)) return type;
  return std::nullopt;
}

// Reads the header event by event and accepts nothing but
//   {"<name>": {"dtype": text, "shape": [n, ...], "data_offsets": [begin, end]}, ...,
//    "__metadata__": {"<key>": text, ...}}
// so that a hostile header (deep nesting, huge arrays) costs no memory before it is refused.
class HeaderReader : public nlohmann::json_sax<json> {
 public:
  explicit HeaderReader(std::string_view file) : file_(file) {}
  SafetensorsHeader take() { return {std::move(tensors_), std::move(metadata_)}; }

  bool key(string_t& text) override {
    if (depth_ == 1) {
      if (!names_.insert(text).second) fail("{}: the header names {} twice", file_, text);
      name_ = text;
    } else {
      key_ = text;
      if (!in_metadata() && key_ != "dtype" && key_ != "shape" && key_ != "data_offsets")
        fail("{}: tensor {}: unknown key \"{}\" (expected dtype, shape, data_offsets)", file_, name_, key_);
      if (!keys_.insert(key_).second) fail("{}: {}: key \"{}\" stands twice", file_, name_, key_);
    }
    return true;
  }
  bool start_object(size_t) override {
    if (depth_ >= 2 || in_array_) unexpected("an object");
    if (++depth_ == 2) {
      keys_.clear();
      current_ = {};
      current_.name = name_;
      shape_.clear();
      offsets_.clear();
    }
    return true;
  }
  bool end_object() override {
    if (depth_-- == 2 && !in_metadata()) finish_tensor();
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ != 2 || in_array_ || in_metadata() || key_ == "dtype") unexpected("an array");
    in_array_ = true;
    return true;
  }
  bool end_array() override {
    in_array_ = false;
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (!in_array_) unexpected("a number");
    std::vector<uint64_t>& list = key_ == "shape" ? shape_ : offsets_;
    if (list.size() >= (key_ == "shape" ? 4u : 2u))
      fail("{}: tensor {}: {} has more than {} entries", file_, name_, key_, list.size());
    list.push_back(value);
    return true;
  }
  bool string(string_t& text) override {
    if (depth_ != 2 || in_array_ || (!in_metadata() && key_ != "dtype")) unexpected("a string");
    if (in_metadata()) {
      metadata_[key_] = text;
      return true;
    }
    const std::optional<StoredType> type = parse_type(text);
    if (!type) fail("{}: tensor {}: dtype {} is not supported (expected {})", file_, name_, text, kTypes);
    current_.type = *type;
    return true;
  }
  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    unexpected("a number that is no 64-bit integer");
  }
  bool binary(binary_t&) override { unexpected("binary data"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& e) override {
    fail("{}: the header is not valid JSON (byte {}): {}", file_, position, e.what());
  }

 private:
  bool in_metadata() const { return name_ == "__metadata__"; }

  [[noreturn]] void unexpected(std::string_view found) const {
    if (depth_ == 0) fail("{}: the header is {}, expected an object of tensors", file_, found);
    if (depth_ == 1) fail("{}: {} is {}, expected an object", file_, name_, found);
    const std::string_view expected = in_metadata() || key_ == "dtype" ? "a string"
                                      : key_ == "shape" ? "a list of up to four sizes (0 or more)"
                                                        : "two byte positions (0 or more)";
    fail("{}: {}: {} is or holds {}, expected {}", file_, name_, key_, found, expected);
  }

  void finish_tensor() {
    for (const char* needed : {"dtype", "shape", "data_offsets"})
      if (!keys_.contains(needed)) fail("{}: tensor {}: {} is missing", file_, name_, needed);
    if (offsets_.size() != 2)
      fail("{}: tensor {}: data_offsets has {} entries, expected 2", file_, name_, offsets_.size());
    current_.begin = offsets_[0];
    current_.end = offsets_[1];
    check_size();
    tensors_.push_back(current_);
  }

  // The shape's bytes, without overflow, must be what the offsets span.
  void check_size() {
    uint64_t bytes = size_of(current_.type);
    for (uint64_t d : shape_)  // a size of 0 empties the tensor but excuses no overflow by the others
      if (__builtin_mul_overflow(bytes, std::max<uint64_t>(d, 1), &bytes) ||
          bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        fail("{}: tensor {}: the shape overflows 64 bits", file_, name_);
    if (std::find(shape_.begin(), shape_.end(), 0u) != shape_.end()) bytes = 0;
    current_.shape = make_shape();
    if (current_.end < current_.begin || current_.end - current_.begin != bytes)
      fail("{}: tensor {}: data_offsets [{}, {}] do not span the {} bytes of {} {}", file_, name_,
           current_.begin, current_.end, bytes, name_of(current_.type), current_.shape.text());
  }

  Shape make_shape() const {
    const auto d = [&](size_t i) { return static_cast<int64_t>(shape_[i]); };
    switch (shape_.size()) {
      case 0:
        return {};
      case 1:
        return {d(0)};
      case 2:
        return {d(0), d(1)};
      case 3:
        return {d(0), d(1), d(2)};
      default:
        return {d(0), d(1), d(2), d(3)};
    }
  }

  std::string_view file_;
  std::vector<TensorInfo> tensors_;
  Metadata metadata_;
  int depth_ = 0;
  bool in_array_ = false;
  std::string name_, key_;
  std::set<std::string> names_, keys_;
  TensorInfo current_;
  std::vector<uint64_t> shape_, offsets_;
};

void check_order(const std::vector<TensorInfo>& tensors, size_t data_bytes, std::string_view file) {
  size_t end = 0;
  for (const TensorInfo& t : tensors) {
    if (t.begin != end)
      fail("{}: tensor {} begins at data byte {}, expected {} ({})", file, t.name, t.begin, end,
           t.begin < end ? "it overlaps the tensor before it" : "there is a hole before it");
    end = t.end;
  }
  if (end != data_bytes)
    fail("{}: the tensors take {} bytes of data, the file has {} ({})", file, end, data_bytes,
         end > data_bytes ? "it is truncated" : "bytes follow the last tensor");
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view text, size_t data_bytes, std::string_view file) {
  if (text.empty() || text.front() != '{') fail("{}: the header does not begin with '{{'", file);
  HeaderReader reader(file);
  json::sax_parse(text.begin(), text.end(), &reader);
  SafetensorsHeader header = reader.take();
  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  check_order(header.tensors, data_bytes, file);
  return header;
}

std::string format_safetensors_header(const SafetensorsHeader& header) {
  nlohmann::ordered_json root;
  root["__metadata__"] = header.metadata;
  for (const TensorInfo& t : header.tensors) {
    auto shape = nlohmann::ordered_json::array();
    for (int i = 0; i < t.shape.rank(); ++i) shape.push_back(t.shape[i]);
    root[t.name] = {{"dtype", name_of(t.type)}, {"shape", shape}, {"data_offsets", {t.begin, t.end}}};
  }
  std::string text = root.dump();
  const size_t prefix = sizeof(uint64_t);
  text.append((64 - (prefix + text.size()) % 64) % 64, ' ');
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), prefix) + text;
}

}  // namespace polar

#include "checkpoint/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "base/error.h"
#include "checkpoint/convert.h"
#include "checkpoint/safetensors_header.h"

namespace polar {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors is little-endian, and so is this code");

template <class T>
T load(const std::byte* from, int64_t index) {  // files of others need not be aligned
  T value;
  std::memcpy(&value, from + static_cast<size_t>(index) * sizeof(T), sizeof(T));
  return value;
}

template <class To>
void read_floats(const std::byte* from, StoredType type, To* to, int64_t count) {
  const auto each = [&](auto element) {
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<To>(element(i));
  };
  switch (type) {
    case StoredType::f32:
      return each([&](int64_t i) { return load<float>(from, i); });
    case StoredType::f64:
      return each([&](int64_t i) { return load<double>(from, i); });
    case StoredType::bf16:
      return each([&](int64_t i) { return bf16_to_float(load<uint16_t>(from, i)); });
    default:
      return each([&](int64_t i) { return half_to_float(load<uint16_t>(from, i)); });
  }
}

void read_long_integers(const std::byte* from, int32_t* to, int64_t count, const std::string& where) {
  for (int64_t i = 0; i < count; ++i) {
    const auto value = load<int64_t>(from, i);
    if (value < std::numeric_limits<int32_t>::min() || value > std::numeric_limits<int32_t>::max())
      fail("{}: element {} is {}, which does not fit into 32 bits", where, i, value);
    to[i] = static_cast<int32_t>(value);
  }
}

bool is_float(StoredType type) {
  return type != StoredType::i32 && type != StoredType::i64;
}

// True if it could be done.
bool convert(const std::byte* from, StoredType type, const Tensor& out, const std::string& where) {
  const int64_t count = out.count();
  if (type == stored_type_of(out.dtype)) {
    if (count > 0) std::memcpy(out.data, from, out.bytes());
  } else if (out.dtype == DType::f32 && is_float(type)) {
    read_floats(from, type, out.as<float>(), count);
  } else if (out.dtype == DType::f64 && is_float(type)) {
    read_floats(from, type, out.as<double>(), count);
  } else if (out.dtype == DType::bf16 && type == StoredType::f32) {
    for (int64_t i = 0; i < count; ++i) out.as<uint16_t>()[i] = float_to_bf16(load<float>(from, i));
  } else if (out.dtype == DType::i32 && type == StoredType::i64) {
    read_long_integers(from, out.as<int32_t>(), count, where);
  } else {
    return false;
  }
  return true;
}

// Writes one tensor in the given type, through a small buffer if it has to be converted.
void write_tensor(FileWriter& writer, const NamedTensor& source, StoredType type) {
  const Tensor& t = source.tensor;
  if (stored_type_of(t.dtype) == type) return writer.write(t.data, t.bytes());
  const DType target = type == StoredType::bf16 ? DType::bf16 : DType::f32;
  constexpr int64_t kChunk = 1 << 16;
  std::vector<float> buffer(kChunk);
  for (int64_t begin = 0; begin < t.count(); begin += kChunk) {
    const Tensor part = t.slice(begin, {std::min(kChunk, t.count() - begin)});
    const Tensor converted{buffer.data(), target, part.shape};
    if (!convert(static_cast<const std::byte*>(part.data), stored_type_of(t.dtype), converted, source.name))
      fail("tensor {}: cannot be written as {}, it is {}", source.name, name_of(type), name_of(t.dtype));
    writer.write(converted.data, converted.bytes());
  }
}

StoredType written_type(const Tensor& tensor, std::optional<DType> floats_as) {
  const bool converts = floats_as && tensor.dtype != DType::i32;
  return stored_type_of(converts ? *floats_as : tensor.dtype);
}

}  // namespace

size_t size_of(StoredType type) {
  switch (type) {
    case StoredType::f64:
    case StoredType::i64:
      return 8;
    case StoredType::bf16:
    case StoredType::f16:
      return 2;
    default:
      return 4;
  }
}

std::string_view name_of(StoredType type) {
  constexpr std::string_view names[] = {"F32", "F64", "BF16", "F16", "I32", "I64"};
  return names[static_cast<size_t>(type)];
}

StoredType stored_type_of(DType type) {
  switch (type) {
    case DType::f32:
      return StoredType::f32;
    case DType::f64:
      return StoredType::f64;
    case DType::bf16:
      return StoredType::bf16;
    case DType::i32:
      break;
  }
  return StoredType::i32;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const std::string name = path.string();
  uint64_t length = 0;
  if (file_.size() < sizeof(length))
    fail("{}: {} bytes are too few for a safetensors file", name, file_.size());
  std::memcpy(&length, file_.data(), sizeof(length));
  if (length > kMaxHeaderBytes)
    fail("{}: the header claims {} bytes, at most {} are allowed (is it a safetensors file?)", name, length,
         kMaxHeaderBytes);
  const size_t data_start = sizeof(length) + length;
  if (data_start > file_.size())
    fail("{}: the header claims {} bytes, the file has only {} (it is truncated)", name, length,
         file_.size());
  const std::string_view text(reinterpret_cast<const char*>(file_.data()) + sizeof(length), length);
  SafetensorsHeader header = parse_safetensors_header(text, file_.size() - data_start, name);
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    tensors_[i].begin += data_start;
    tensors_[i].end += data_start;
    index_.emplace(tensors_[i].name, i);
  }
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const TensorInfo& t : tensors_) names.push_back(t.name);
  return names;
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const TensorInfo& SafetensorsFile::info(std::string_view name) const {
  const TensorInfo* found = find(name);
  if (found == nullptr)
    fail("{}: there is no tensor {} among its {}", path().string(), name, tensors_.size());
  return *found;
}

std::span<const std::byte> SafetensorsFile::bytes(const TensorInfo& tensor) const {
  return file_.bytes().subspan(tensor.begin, tensor.end - tensor.begin);
}

void SafetensorsFile::read_range(std::string_view name, int64_t begin, const Tensor& out) const {
  const TensorInfo& tensor = info(name);
  if (tensor.type != stored_type_of(out.dtype))
    fail("{}: tensor {} is {}, expected {}", path().string(), name, name_of(tensor.type),
         name_of(stored_type_of(out.dtype)));
  if (begin < 0 || begin + out.count() > tensor.shape.count())
    fail("{}: tensor {} has {} elements, expected at least {}", path().string(), name, tensor.shape.count(),
         begin + out.count());
  std::memcpy(out.data, bytes(tensor).data() + static_cast<size_t>(begin) * size_of(out.dtype), out.bytes());
}

void SafetensorsFile::read(std::string_view name, const Tensor& out) const {
  const TensorInfo& found = info(name);
  if (found.shape != out.shape)
    fail("{}: tensor {} has shape {}, expected {}", path().string(), name, found.shape.text(),
         out.shape.text());
  const std::string where = fmt::format("{}: tensor {}", path().string(), name);
  if (!convert(bytes(found).data(), found.type, out, where))
    fail("{} is {} and cannot be read as {}", where, name_of(found.type), name_of(out.dtype));
}

void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       Metadata metadata, std::optional<DType> floats_as) {
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& t : tensors) order.push_back(&t);
  std::stable_sort(order.begin(), order.end(), [&](const NamedTensor* a, const NamedTensor* b) {
    return size_of(written_type(a->tensor, floats_as)) > size_of(written_type(b->tensor, floats_as));
  });
  SafetensorsHeader header;
  header.metadata = std::move(metadata);
  header.metadata.emplace("format", "pt");
  size_t end = 0;
  for (const NamedTensor* t : order) {
    const StoredType type = written_type(t->tensor, floats_as);
    const size_t begin = end;
    end += static_cast<size_t>(t->tensor.count()) * size_of(type);
    header.tensors.push_back({t->name, type, t->tensor.shape, begin, end});
  }
  FileWriter writer(path);
  writer.write(format_safetensors_header(header));
  for (const NamedTensor* t : order) write_tensor(writer, *t, written_type(t->tensor, floats_as));
  writer.close();
}

}  // namespace polar

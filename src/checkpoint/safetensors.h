// The safetensors format: a strict, memory-mapped reader, a streaming writer, and one view of a directory
// that hides whether its tensors lie in one file or in several.
//
// Source: https://github.com/huggingface/safetensors (format section of its README). Layout: u64
// little-endian header length N, N bytes of JSON, data. Every rule of the format is checked before a byte of
// data is touched; an error names the file, the tensor, what was found and what was expected.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "tensor/tensor.h"

namespace polar {

// What a file may hold: wider than DType, because files of others come in types that we only read.
enum class StoredType : uint8_t { f32, f64, bf16, f16, i32, i64 };
size_t size_of(StoredType type);
std::string_view name_of(StoredType type);  // "F32", "BF16", ...
StoredType stored_type_of(DType type);

struct TensorInfo {
  std::string name;
  StoredType type = StoredType::f32;
  Shape shape;
  size_t begin = 0, end = 0;  // bytes from the start of the file
};

struct NamedTensor {
  std::string name;
  Tensor tensor;  // host memory; only read
};

using Metadata = std::map<std::string, std::string>;

// One open .safetensors file. Tensors with more than four dimensions or of other types than StoredType's are
// refused when the file is opened.
class SafetensorsFile {
 public:
  static constexpr uint64_t kMaxHeaderBytes = 100'000'000;

  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // in the order of their data
  const Metadata& metadata() const { return metadata_; }
  std::vector<std::string> names() const;
  const TensorInfo* find(std::string_view name) const;        // null: not there
  const TensorInfo& info(std::string_view name) const;        // Error: not there
  std::span<const std::byte> bytes(const TensorInfo&) const;  // as stored, in the map
  // Copies a tensor into the caller's host memory, converted to its type. The shape must be equal.
  // Possible: any float to f32 or f64; F32 or BF16 to bf16 (nearest even); I32 or I64 to i32 (range checked).
  void read(std::string_view name, const Tensor& out) const;
  // The same for elements [begin, begin + out.count()), taken flat; the stored type must be `out`'s.
  void read_range(std::string_view name, int64_t begin, const Tensor& out) const;

 private:
  MappedFile file_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  Metadata metadata_;
};

// Writes `path` (flushed to the disk when it returns). The data starts at a multiple of 64 bytes and tensors
// lie by falling element size, so that each is aligned; those of one size keep the caller's order. Metadata
// gets "format": "pt" unless given. `floats_as` (f32 or bf16) converts floating-point tensors on the way.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       Metadata metadata = {}, std::optional<DType> floats_as = {});

// The tensors of a directory: DIR/<stem>.safetensors, or the shards that DIR/<stem>.safetensors.index.json
// lists; or of one .safetensors file, if `path` is one. Errors: neither is there, a shard is missing, a name
// of the index is not in its shard, a shard holds a name that the index does not know.
class TensorSource {
 public:
  explicit TensorSource(const std::filesystem::path& path, std::string_view stem = "model");

  const std::filesystem::path& path() const { return path_; }
  std::vector<std::string> names() const;  // sorted
  bool contains(std::string_view name) const { return place_.find(name) != place_.end(); }
  const TensorInfo& info(std::string_view name) const { return file_of(name).info(name); }
  void read(std::string_view name, const Tensor& out) const { file_of(name).read(name, out); }
  void read_range(std::string_view name, int64_t begin, const Tensor& out) const {
    file_of(name).read_range(name, begin, out);
  }

 private:
  const SafetensorsFile& file_of(std::string_view name) const;
  void open_shards(const std::filesystem::path& index);

  std::filesystem::path path_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const SafetensorsFile*, std::less<>> place_;
};

}  // namespace polar

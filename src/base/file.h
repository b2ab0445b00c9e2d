// The file layer: everything that must be whole or not there at all (checkpoints, shards, configurations,
// reports) is written and checked through here, so that errors name the file and the reason, and tests can
// make any single operation fail (fault injection). Streams that grow line by line (log, metrics, TensorBoard
// events) are written by their own modules: there, a lost last line is no harm.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace polar {

// A read-only memory map of a whole file (64-bit sizes; an empty file maps to an empty span).
// Errors: Error naming the path and the system's reason.
class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Sequential writer. Bytes go to the file at once (a large buffer inside); `close()` flushes them to the disk
// (fsync) and must be called: a writer destroyed before close() deletes its file. Errors: Error (disk full,
// ...).
class FileWriter {
 public:
  explicit FileWriter(const std::filesystem::path& path);
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  ~FileWriter();
  void write(const void* data, size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Overwrites bytes that were written before (a header whose counts are known only at the end).
  void write_at(uint64_t offset, const void* data, size_t size);
  uint64_t position() const { return position_; }
  void close();

 private:
  void flush();
  std::filesystem::path path_;
  int descriptor_ = -1;
  uint64_t position_ = 0;
  std::string buffer_;
};

// Reads a whole (small) file.
std::string read_file(const std::filesystem::path& path);
// Writes to `path` + ".tmp", flushes to the disk, renames: readers see the old file or the new one, never a
// part.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);
// rename(2) followed by fsync of the directory, so that the rename itself survives a power cut.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);
// fsync of a directory: the names of the files in it survive a power cut.
void sync_directory(const std::filesystem::path& path);
// Removes a file, or a directory with everything in it. Nothing there: nothing done.
void remove_tree(const std::filesystem::path& path);

// XXH3-128 of some bytes or of a whole file, as 32 hexadecimal digits (what `xxh128sum` prints).
std::string checksum(std::span<const std::byte> bytes);
std::string checksum_file(const std::filesystem::path& path);

// Fault injection for tests: called before every operation that changes the disk (write, sync, rename,
// remove) with what is about to happen; it may throw an Error or end the process. An empty function removes
// it. Not thread-safe against running writers: set it before they start.
using FileFault = std::function<void(std::string_view operation, const std::filesystem::path& path)>;
void set_file_fault(FileFault fault);

}  // namespace polar

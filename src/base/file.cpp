#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace polar {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 20;

FileFault& file_fault() {
  static FileFault fault;
  return fault;
}

void before(std::string_view operation, const std::filesystem::path& path) {
  if (file_fault()) file_fault()(operation, path);
}

[[noreturn]] void fail_errno(std::string_view action, const std::filesystem::path& path) {
  const int reason = errno;
  const char* hint = reason == ENOSPC   ? " (free some space, or put the run on another disk)"
                     : reason == EACCES ? " (check the permissions)"
                                        : "";
  fail("cannot {} {}: {}{}", action, path.string(), std::strerror(reason), hint);
}

void write_all(int descriptor, const char* data, size_t size, off_t offset, bool positioned,
               const std::filesystem::path& path) {
  while (size > 0) {
    const ssize_t n = positioned ? ::pwrite(descriptor, data, size, offset) : ::write(descriptor, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_errno("write", path);
    data += n;
    size -= static_cast<size_t>(n);
    offset += n;
  }
}

void flush_directory(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail_errno("open", path);
  ::fsync(descriptor);  // some file systems refuse it on directories; what it would flush has happened
  ::close(descriptor);
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail_errno("open", path);
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    fail("cannot open {}: not a regular file", path.string());
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ > 0) {
    void* address = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor, 0);
    if (address == MAP_FAILED) {
      ::close(descriptor);
      fail_errno("map", path);
    }
    data_ = static_cast<const std::byte*>(address);
  }
  ::close(descriptor);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

FileWriter::FileWriter(const std::filesystem::path& path) : path_(path) {
  before("create", path_);
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail_errno("create", path);
  buffer_.reserve(kBufferBytes);
}

FileWriter::~FileWriter() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(path_.c_str());
}

void FileWriter::write(const void* data, size_t size) {
  position_ += size;
  if (buffer_.size() + size <= kBufferBytes) {
    buffer_.append(static_cast<const char*>(data), size);
    return;
  }
  flush();
  before("write", path_);
  write_all(descriptor_, static_cast<const char*>(data), size, 0, false, path_);
}

void FileWriter::write_at(uint64_t offset, const void* data, size_t size) {
  flush();
  before("write", path_);
  write_all(descriptor_, static_cast<const char*>(data), size, static_cast<off_t>(offset), true, path_);
}

void FileWriter::flush() {
  if (buffer_.empty()) return;
  before("write", path_);
  write_all(descriptor_, buffer_.data(), buffer_.size(), 0, false, path_);
  buffer_.clear();
}

void FileWriter::close() {
  flush();
  before("sync", path_);
  if (::fsync(descriptor_) != 0) fail_errno("flush", path_);
  if (::close(std::exchange(descriptor_, -1)) != 0) fail_errno("close", path_);
}

std::string read_file(const std::filesystem::path& path) {
  MappedFile file(path);
  return std::string(reinterpret_cast<const char*>(file.data()), file.size());
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  const std::filesystem::path temporary = path.string() + ".tmp";
  FileWriter writer(temporary);
  writer.write(content);
  writer.close();
  rename_durably(temporary, path);
}

void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to) {
  before("rename", to);
  if (::rename(from.c_str(), to.c_str()) != 0) fail_errno("rename to", to);
  flush_directory(to.has_parent_path() ? to.parent_path() : ".");
}

void sync_directory(const std::filesystem::path& path) {
  before("sync", path);
  flush_directory(path);
}

void remove_tree(const std::filesystem::path& path) {
  before("remove", path);
  std::error_code reason;
  std::filesystem::remove_all(path, reason);
  if (reason) fail("cannot remove {}: {}", path.string(), reason.message());
}

std::string checksum(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::string checksum_file(const std::filesystem::path& path) {
  MappedFile file(path);
  return checksum(file.bytes());
}

void set_file_fault(FileFault fault) {
  file_fault() = std::move(fault);
}

}  // namespace polar

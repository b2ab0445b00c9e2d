// Lines of a file, plain or compressed by zstd, at any size of the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string_view>

namespace polar {

class LineReader {
 public:
  virtual ~LineReader() = default;
  // The next line without its newline, valid until the next call; false at the end.
  // Error (exit code 1): the compressed data is damaged or cut off.
  virtual bool next(std::string_view& line) = 0;
  // Bytes of the file that have been used up.
  virtual uint64_t position() const = 0;
};

// Compressed if the name ends in .zst.
std::unique_ptr<LineReader> open_lines(const std::filesystem::path& path);

}  // namespace polar

#include "data/line_reader.h"

#include <zstd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/file.h"

namespace polar {
namespace {

class PlainLines : public LineReader {
 public:
  explicit PlainLines(const std::filesystem::path& path) : file_(path) {
    text_ = {reinterpret_cast<const char*>(file_.data()), file_.size()};
  }
  bool next(std::string_view& line) override {
    if (at_ >= text_.size()) return false;
    const size_t end = std::min(text_.find('\n', at_), text_.size());
    line = text_.substr(at_, end - at_);
    at_ = end + 1;
    return true;
  }
  uint64_t position() const override { return std::min(at_, text_.size()); }

 private:
  MappedFile file_;
  std::string_view text_;
  size_t at_ = 0;
};

class ZstdLines : public LineReader {
 public:
  explicit ZstdLines(const std::filesystem::path& path)
      : file_(path), stream_(ZSTD_createDStream(), ZSTD_freeDStream), input_{file_.data(), file_.size(), 0} {}

  bool next(std::string_view& line) override {
    size_t end = buffer_.find('\n', begin_);
    while (end == std::string::npos && decompress()) end = buffer_.find('\n', begin_);
    if (begin_ == buffer_.size()) return false;
    end = std::min(end, buffer_.size());
    line = std::string_view(buffer_).substr(begin_, end - begin_);
    begin_ = std::min(end + 1, buffer_.size());
    return true;
  }
  uint64_t position() const override { return input_.pos; }

 private:
  static constexpr size_t kMaxLineBytes = size_t{1} << 30;

  // Drops the lines that are done and appends some more text; false at the end of the last frame.
  bool decompress() {
    buffer_.erase(0, std::exchange(begin_, 0));
    const size_t old_size = buffer_.size();
    if (old_size > kMaxLineBytes)
      fail("{}: a line is longer than {} bytes: is this JSON lines?", file_.path().string(), kMaxLineBytes);
    while (buffer_.size() == old_size) {
      if (frame_done_ && input_.pos == input_.size) return false;
      buffer_.resize(old_size + ZSTD_DStreamOutSize());
      ZSTD_outBuffer output{buffer_.data() + old_size, ZSTD_DStreamOutSize(), 0};
      const size_t before = input_.pos;
      const size_t hint = ZSTD_decompressStream(stream_.get(), &output, &input_);
      buffer_.resize(old_size + output.pos);
      if (ZSTD_isError(hint))
        fail("{}: damaged zstd data near byte {}: {}", file_.path().string(), input_.pos,
             ZSTD_getErrorName(hint));
      frame_done_ = hint == 0;
      if (!frame_done_ && output.pos == 0 && input_.pos == before)
        fail("{}: the zstd data is cut off after {} bytes", file_.path().string(), input_.size);
    }
    return true;
  }

  MappedFile file_;
  std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream_;
  ZSTD_inBuffer input_;
  std::string buffer_;
  size_t begin_ = 0;        // of the next line
  bool frame_done_ = true;  // an empty file is an empty text
};

}  // namespace

std::unique_ptr<LineReader> open_lines(const std::filesystem::path& path) {
  if (path.extension() == ".zst") return std::make_unique<ZstdLines>(path);
  return std::make_unique<PlainLines>(path);
}

}  // namespace polar

#include <algorithm>

#include "base/file.h"
#include "base/log.h"
#include "data/document_source.h"

namespace polar {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

class TextFile : public DocumentSource {
 public:
  TextFile(const std::filesystem::path& path, const TextOptions& options)
      : file_(path), separator_(options.document_separator) {
    text_ = {reinterpret_cast<const char*>(file_.data()), file_.size()};
    if (text_.starts_with(kByteOrderMark)) at_ = kByteOrderMark.size();
    border_ = find_border(options.validation_fraction);
    if (options.validation_fraction > 0 && border_ == text_.size())
      log::warning("{}: nothing is held out: no {} border in its last {} %", path.string(),
                   separator_.empty() ? "paragraph" : "document", 100 * options.validation_fraction);
  }

  bool next(Document& document) override {
    if (at_ >= text_.size()) return false;
    const size_t end = at_ < border_ ? border_ : text_.size();
    const Separator separator = find_separator(at_, end);
    document = {text_.substr(at_, separator.begin - at_), at_ >= border_, at_};
    at_ = separator.end;
    return true;
  }
  uint64_t position() const override { return at_; }

 private:
  struct Separator {
    size_t begin, end;
  };
  // The first separator line at or after `from`, which is the start of a line; [end, end) if there is none.
  Separator find_separator(size_t from, size_t end) const {
    if (separator_.empty()) return {end, end};
    while (from < end) {
      const size_t line_end = std::min(text_.find('\n', from), end);
      const size_t next = std::min(line_end + 1, end);
      std::string_view line = text_.substr(from, line_end - from);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line == separator_) return {from, next};
      from = next;
    }
    return {end, end};
  }
  // Where the held-out tail begins; the text's end if there is no border in it.
  size_t find_border(double fraction) const {
    const auto target = static_cast<size_t>(static_cast<double>(text_.size()) * (1 - fraction));
    const size_t line = std::min(text_.find('\n', target), text_.size());
    if (fraction <= 0 || line == text_.size()) return text_.size();
    if (!separator_.empty()) return find_separator(line + 1, text_.size()).end;
    size_t border = std::min(text_.find("\n\n", target), text_.size());
    if (border == text_.size()) border = line;  // no blank lines: one paragraph a line
    return std::min(text_.find_first_not_of('\n', border), text_.size());
  }

  MappedFile file_;
  std::string separator_;
  std::string_view text_;
  size_t at_ = 0;
  size_t border_ = 0;
};

}  // namespace

std::unique_ptr<DocumentSource> open_text_file(const std::filesystem::path& path,
                                               const TextOptions& options) {
  return std::make_unique<TextFile>(path, options);
}

}  // namespace polar

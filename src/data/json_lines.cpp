#include <simdjson.h>
#include <xxhash.h>

#include "base/error.h"
#include "data/document_source.h"
#include "data/line_reader.h"

namespace polar {
namespace {

class JsonLines : public DocumentSource {
 public:
  JsonLines(const std::filesystem::path& path, const TextOptions& options)
      : path_(path), options_(options), lines_(open_lines(path)) {}

  bool next(Document& document) override {
    std::string_view line;
    while (lines_->next(line)) {
      ++line_number_;
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      std::string fault;
      if (parse(line, document.text, fault)) {
        document.held_out = is_held_out(document.text);
        document.offset = 0;
        return true;
      }
      if (!options_.skip_bad_lines)
        fail_usage("{}:{}: {} (--skip-bad leaves such lines out)", path_.string(), line_number_, fault);
      ++skipped_lines_;
    }
    return false;
  }
  uint64_t position() const override { return lines_->position(); }
  uint64_t skipped_lines() const override { return skipped_lines_; }

 private:
  bool parse(std::string_view line, std::string_view& text, std::string& fault) {
    simdjson::dom::element element;
    if (const auto error = parser_.parse(line.data(), line.size()).get(element)) {
      fault = fmt::format("not valid JSON: {}", simdjson::error_message(error));
      return false;
    }
    simdjson::dom::object object;
    if (element.get(object)) {
      fault = "expected a JSON object on every line";
      return false;
    }
    simdjson::dom::element member;
    if (object.at_key(options_.text_field).get(member)) {
      fault = fmt::format("no member \"{}\" (--text-field names the one that holds the text)",
                          options_.text_field);
      return false;
    }
    if (member.get(text)) {
      fault = fmt::format("the member \"{}\" is not a string", options_.text_field);
      return false;
    }
    return true;
  }
  bool is_held_out(std::string_view text) const {
    constexpr XXH64_hash_t kSeed = 0x706F6C6172;
    const double uniform =
        static_cast<double>(XXH3_64bits_withSeed(text.data(), text.size(), kSeed) >> 11) * 0x1p-53;
    return uniform < options_.validation_fraction;
  }

  std::filesystem::path path_;
  TextOptions options_;
  std::unique_ptr<LineReader> lines_;
  simdjson::dom::parser parser_;  // owns the text of the last document
  uint64_t line_number_ = 0;
  uint64_t skipped_lines_ = 0;
};

}  // namespace

std::unique_ptr<DocumentSource> open_json_lines(const std::filesystem::path& path,
                                                const TextOptions& options) {
  return std::make_unique<JsonLines>(path, options);
}

}  // namespace polar

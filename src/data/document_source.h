// Documents of one input file, one after the other: plain text, or JSON lines (plain or compressed by zstd).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace polar {

struct TextOptions {
  std::string text_field = "text";   // of a .jsonl line: the member that holds the text
  std::string document_separator;    // of a .txt file: a line that ends a document; empty: the file is one
  double validation_fraction = 0.1;  // held-out share, in [0, 1)
  bool skip_bad_lines = false;       // .jsonl: count and skip lines that are not as expected
};

struct Document {
  std::string_view text;  // valid until the next call
  bool held_out = false;  // belongs to the validation split
  uint64_t offset = 0;    // .txt: where the text begins in the file, in bytes
};

class DocumentSource {
 public:
  virtual ~DocumentSource() = default;
  // False at the end. Error (exit code 2) naming file and line for input that is not as expected.
  virtual bool next(Document& document) = 0;
  // Bytes of the file that have been used up, for progress.
  virtual uint64_t position() const = 0;
  virtual uint64_t skipped_lines() const { return 0; }
};

// The last `validation_fraction` of the bytes is held out, cut at the next document border (with a separator)
// or at the next paragraph border (without).
std::unique_ptr<DocumentSource> open_text_file(const std::filesystem::path& path, const TextOptions& options);

// A document is held out by a hash of its text: equal documents always fall on the same side.
std::unique_ptr<DocumentSource> open_json_lines(const std::filesystem::path& path,
                                                const TextOptions& options);

}  // namespace polar

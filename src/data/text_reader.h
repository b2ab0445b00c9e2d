// All documents of many inputs (files and folders) in a fixed order, in fragments fit for encoding.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/document_source.h"

namespace polar {

// A piece of a document: cut after a newline, so that the pieces can be encoded by themselves.
struct Fragment {
  std::string text;  // valid UTF-8; may be empty at a document's end
  bool ends_document = false;
  bool held_out = false;
};

// The files of `inputs`: files as named, folders recursively and sorted by path, of those only .txt, .jsonl
// and .jsonl.zst. Error (exit code 2): an input that does not exist or is of another kind, a folder with
// none.
std::vector<std::filesystem::path> find_text_files(const std::vector<std::filesystem::path>& inputs);

class TextReader {
 public:
  // `cut`: whether documents may be cut at newlines (Tokenizer::splits_at_newlines); else each is one
  // fragment.
  TextReader(const std::vector<std::filesystem::path>& inputs, const TextOptions& options, bool cut);

  // False at the end. Empty documents are left out. Error (exit code 2) naming the place of invalid UTF-8.
  bool next(Fragment& fragment);

  uint64_t total_bytes() const { return total_bytes_; }
  // Bytes of the input files that have been used up, for progress.
  uint64_t position() const { return finished_bytes_ + (source_ ? source_->position() : 0); }
  uint64_t skipped_lines() const { return skipped_lines_ + (source_ ? source_->skipped_lines() : 0); }

 private:
  bool next_document();
  size_t fragment_size() const;
  void check_utf8(std::string_view text) const;
  std::vector<std::filesystem::path> files_;
  TextOptions options_;
  bool cut_;
  uint64_t total_bytes_ = 0, finished_bytes_ = 0, skipped_lines_ = 0;
  size_t next_file_ = 0;
  std::unique_ptr<DocumentSource> source_;
  Document document_;  // what is left of the current one
};

}  // namespace polar

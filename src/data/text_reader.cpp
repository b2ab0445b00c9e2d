#include "data/text_reader.h"

#include <simdjson.h>

#include <algorithm>

#include "base/error.h"
#include "data/utf8.h"

namespace polar {
namespace {

namespace fs = std::filesystem;

// SentencePiece is fastest on pieces of paragraph size; this is large enough to make its overhead small.
constexpr size_t kFragmentBytes = 4096;

bool is_plain_text(const fs::path& path) {
  return path.extension() == ".txt";
}
bool is_json_lines(const fs::path& path) {
  return path.extension() == ".jsonl" || path.filename().string().ends_with(".jsonl.zst");
}

std::vector<fs::path> files_of_folder(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && (is_plain_text(entry.path()) || is_json_lines(entry.path())))
      files.push_back(entry.path());
  if (files.empty()) fail_usage("the folder {} holds no .txt, .jsonl or .jsonl.zst file", folder.string());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

std::vector<fs::path> find_text_files(const std::vector<fs::path>& inputs) {
  std::vector<fs::path> files;
  for (const fs::path& input : inputs) {
    if (!fs::exists(input)) fail_usage("there is no input {}", input.string());
    if (fs::is_directory(input)) {
      const std::vector<fs::path> found = files_of_folder(input);
      files.insert(files.end(), found.begin(), found.end());
    } else if (is_plain_text(input) || is_json_lines(input)) {
      files.push_back(input);
    } else {
      fail_usage("cannot read {}: expected .txt, .jsonl or .jsonl.zst{}", input.string(),
                 input.extension() == ".parquet" ? " (data/README.md shows how to convert Parquet)" : "");
    }
  }
  return files;
}

TextReader::TextReader(const std::vector<fs::path>& inputs, const TextOptions& options, bool cut)
    : files_(find_text_files(inputs)), options_(options), cut_(cut) {
  if (!(options.validation_fraction >= 0 && options.validation_fraction < 1))
    fail_usage("the validation fraction is {}, expected 0 or more and less than 1",
               options.validation_fraction);
  for (const fs::path& file : files_) total_bytes_ += fs::file_size(file);
}

bool TextReader::next(Fragment& fragment) {
  while (document_.text.empty())
    if (!next_document()) return false;
  const std::string_view text = document_.text.substr(0, fragment_size());
  check_utf8(text);
  fragment.text.assign(text);
  document_.text.remove_prefix(text.size());
  document_.offset += text.size();
  fragment.ends_document = document_.text.empty();
  fragment.held_out = document_.held_out;
  return true;
}

bool TextReader::next_document() {
  while (!source_ || !source_->next(document_)) {
    if (source_) {
      finished_bytes_ += fs::file_size(files_[next_file_ - 1]);
      skipped_lines_ += source_->skipped_lines();
      source_.reset();
    }
    if (next_file_ == files_.size()) return false;
    const fs::path& file = files_[next_file_++];
    source_ = is_plain_text(file) ? open_text_file(file, options_) : open_json_lines(file, options_);
  }
  return true;
}

size_t TextReader::fragment_size() const {
  const size_t size = document_.text.size();
  if (!cut_ || size <= kFragmentBytes) return size;
  const size_t newline = document_.text.find('\n', kFragmentBytes);
  return newline == std::string_view::npos ? size : newline + 1;
}

void TextReader::check_utf8(std::string_view text) const {
  if (simdjson::validate_utf8(text.data(), text.size())) return;
  size_t at = 0;
  for (Utf8Prefix prefix{}; (prefix = utf8_prefix(text.substr(at))).state == Utf8Prefix::complete;)
    at += prefix.bytes;
  fail_usage("{}: the byte 0x{:02x} at offset {} is not valid UTF-8: convert the file first (iconv -t UTF-8)",
             files_[next_file_ - 1].string(), static_cast<unsigned char>(text[at]), document_.offset + at);
}

}  // namespace polar

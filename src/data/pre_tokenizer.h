// Cuts text into the pieces that byte-level BPE merges within (the pre_tokenizer of a tokenizer.json).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace polar {

// All methods are const and may be called from several threads at once.
class PreTokenizer {
 public:
  // `pattern` is a regular expression as tokenizer.json writes them (Unicode classes, look-ahead). With `nfc`
  // the text is brought to Unicode normal form C first. Error (exit code 2): the pattern is not understood.
  PreTokenizer(const std::string& pattern, bool nfc);
  ~PreTokenizer();

  // Calls `piece` with every match and every stretch between matches, in order: together they are the text.
  void split(std::string_view text, const std::function<void(std::string_view)>& piece) const;

 private:
  struct Pattern;
  std::unique_ptr<const Pattern> pattern_;
};

}  // namespace polar

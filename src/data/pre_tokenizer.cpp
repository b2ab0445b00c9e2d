#include "data/pre_tokenizer.h"

#include <unicode/normalizer2.h>
#include <unicode/regex.h>

#include "base/error.h"

namespace polar {
namespace {

// ICU's \s lacks some white space that the expressions' own engine (Oniguruma) knows; the property has it
// all.
std::string with_unicode_spaces(std::string pattern) {
  for (const auto& [from, to] : {std::pair{"\\s", "\\p{White_Space}"}, std::pair{"\\S", "\\P{White_Space}"}})
    for (size_t at = 0; (at = pattern.find(from, at)) != std::string::npos; at += std::string_view(to).size())
      pattern.replace(at, 2, to);
  return pattern;
}

void check(UErrorCode code, std::string_view what) {
  if (U_FAILURE(code)) fail("ICU cannot {}: {}", what, u_errorName(code));
}

}  // namespace

struct PreTokenizer::Pattern {
  std::unique_ptr<icu::RegexPattern> expression;
  const icu::Normalizer2* nfc = nullptr;  // owned by ICU; null: the text stays as it is
};

PreTokenizer::PreTokenizer(const std::string& pattern, bool nfc) {
  auto compiled = std::make_unique<Pattern>();
  UErrorCode code = U_ZERO_ERROR;
  UParseError place{};
  compiled->expression.reset(
      icu::RegexPattern::compile(icu::UnicodeString::fromUTF8(with_unicode_spaces(pattern)), 0, place, code));
  if (U_FAILURE(code))
    fail_usage("the pre-tokenizer's expression \"{}\" is not understood at character {}: {}", pattern,
               place.offset, u_errorName(code));
  if (nfc) compiled->nfc = icu::Normalizer2::getNFCInstance(code);
  check(code, "load its normalisation data");
  pattern_ = std::move(compiled);
}

PreTokenizer::~PreTokenizer() = default;

void PreTokenizer::split(std::string_view text, const std::function<void(std::string_view)>& piece) const {
  UErrorCode code = U_ZERO_ERROR;
  icu::UnicodeString unicode =
      icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
  if (pattern_->nfc != nullptr) unicode = pattern_->nfc->normalize(unicode, code);
  check(code, "normalise a text");
  const std::unique_ptr<icu::RegexMatcher> matcher(pattern_->expression->matcher(unicode, code));
  check(code, "match a text");
  matcher->setStackLimit(0, code);  // no limit: long runs of one kind are no error

  std::string utf8;
  const auto emit = [&](int32_t begin, int32_t end) {
    if (begin == end) return;
    utf8.clear();
    piece(unicode.tempSubStringBetween(begin, end).toUTF8String(utf8));
  };
  int32_t done = 0;
  while (matcher->find(code)) {
    const int32_t begin = matcher->start(code);
    emit(done, begin);
    done = matcher->end(code);
    emit(begin, done);
  }
  check(code, "match a text");
  emit(done, unicode.length());
}

}  // namespace polar

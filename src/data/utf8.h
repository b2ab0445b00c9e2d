// The well-formedness of UTF-8 (Unicode 15, table 3-7), one character at a time.
#pragma once

#include <cstddef>
#include <string_view>

namespace polar {

// What a text begins with: one whole character; the beginning of one, cut off by the end; or a maximal part
// of an ill-formed sequence, which is shown as one U+FFFD.
struct Utf8Prefix {
  enum State { complete, incomplete, invalid } state;
  size_t bytes;
};

// `text` is not empty.
Utf8Prefix utf8_prefix(std::string_view text);

}  // namespace polar

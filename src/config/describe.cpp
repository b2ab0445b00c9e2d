#include "config/describe.h"

#include <fmt/format.h>

#include <cmath>

namespace polar {

std::string Range::text() const {
  const bool has_low = std::isfinite(low), has_high = std::isfinite(high);
  if (has_low && has_high && !low_open && !high_open) return fmt::format("from {} to {}", low, high);
  std::string text = has_low ? fmt::format("{} {}", low_open ? "above" : "at least", low) : "";
  if (has_high)
    text += fmt::format("{}{} {}", text.empty() ? "" : " and ", high_open ? "below" : "at most", high);
  return text;
}

std::string describe_number(std::string_view what, const Range& range) {
  const std::string text = range.text();
  return std::string(what) + (text.empty() ? "" : " " + text);
}

}  // namespace polar

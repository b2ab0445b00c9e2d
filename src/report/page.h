// The HTML page of a report, as text; style and script stand in files of their own.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "report/run_data.h"

namespace polar {

extern const char* const kPageStyle;   // CSS
extern const char* const kPageScript;  // JavaScript: the charts

// & < > " ' as entities: safe as HTML text and inside quoted attributes. Bytes that are not UTF-8, and
// control characters that HTML forbids, become U+FFFD.
std::string escape_html(std::string_view text);

// The runs' curves as JSON for the script. It holds no "<", so it can stand inside a script element.
std::string page_data(std::span<const RunData> runs);

// A whole page with the runs' curves: the report of a run, and others that have curves in them.
struct Document {
  std::string title;              // HTML is escaped
  std::string kind;               // "training report"
  std::string style;              // CSS beyond that of all pages
  std::span<const RunData> runs;  // whose curves it shows
  std::string before, after;      // the curves and their controls, HTML
};
std::string render_document(const Document& document);

// The report of one run or several.
std::string render_page(std::span<const RunData> runs);

}  // namespace polar

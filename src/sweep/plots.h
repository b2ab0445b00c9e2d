// What a sweep's loss depends on, as HTML and SVG that need no script: loss over one key, heat maps over two.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sweep/results.h"

namespace polar::sweep {

// The lowest mean loss among the ranked points with given values of some grids: "best over the other keys".
struct Best {
  std::optional<double> loss;
  size_t point = 0;    // that has it
  bool tried = false;  // some run of such a point has ended, with a result or without
};
// `values`: of each grid the index of a value, or -1: any.
Best best_with(const Definition& definition, const Results& results, const std::vector<Ranked>& order,
               const std::vector<int>& values);

// Where the range of losses is cut for drawing, so that one that has run away does not flatten all others:
// what is farther above the best than four times the median is.
double upper_end(std::vector<double> losses);

// One table a pair of grids with two values or more; empty if there is none.
std::string heat_maps(const Definition& definition, const Results& results);

// One picture a grid with two values or more: every seed a dot, and a line through the best mean of each
// value.
std::string loss_over_keys(const Definition& definition, const Results& results);

extern const char* const kPlotStyle;  // CSS

}  // namespace polar::sweep

// The grid of a sweep: keys of the configuration with the values they take, and the product of several.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace polar::sweep {

// "optimizer.groups.0.lr=1e-3,2e-3". Several keys joined by '+' take the same value in every point:
// "optimizer.groups.0.lr+optimizer.groups.1.lr=1e-3,2e-3".
struct Grid {
  std::vector<std::string> keys;
  std::vector<std::string> values;  // as written
  std::string name;                 // in names of points and in tables: the shortest ends of the keys
};

// What stands behind '=' at the commas, except inside brackets, braces and quotes: "[0.9,0.95],[0.8,0.95]"
// are two values. Throws Error (exit code 2) for a bracket or quote that is not closed, and for an empty
// value.
std::vector<std::string> split_values(std::string_view text);

// One --grid. Throws Error (exit code 2): no '=', an empty key, no value, a value twice, a key that a sweep
// sets itself (run.dir, run.name, run.seed, run.threads).
Grid parse_grid(const std::string& text);

// All of them, with names: of "optimizer.groups.0.lr" the end that no other grid's keys have, at least "lr".
// Keys that are set together are named by their common end, or by all of them. Throws Error (exit code 2) for
// a key that stands in two grids.
std::vector<Grid> parse_grids(const std::vector<std::string>& texts);

// The numbers that all values are; nothing if one is not a (finite) number.
std::optional<std::vector<double>> as_numbers(const std::vector<std::string>& values);

// One combination of values.
struct Point {
  std::string name;                    // of its directory: "lr=1e-3,beta=0.9"; "base" without a grid
  std::vector<size_t> choice;          // of each grid's values
  std::vector<std::string> overrides;  // "optimizer.groups.0.lr=1e-3", ...
};

// The product; the last grid's values change fastest.
std::vector<Point> product(const std::vector<Grid>& grids);

}  // namespace polar::sweep

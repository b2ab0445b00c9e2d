// The part of DIR/sweep.json that says what the sweep is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "sweep/grid.h"

namespace polar::sweep {

inline constexpr const char* kSweepFile = "sweep.json";

struct KeptDefinition {
  std::vector<Grid> grids;
  int64_t seeds = 0;
};

// Errors: no such file, damaged, of another format.
KeptDefinition read_definition(const std::filesystem::path& sweep);

}  // namespace polar::sweep

// The ranking as text.
#pragma once

#include <string>
#include <vector>

#include "sweep/results.h"

namespace polar::sweep {

// Rows of cells, the first one the head, as a Markdown table whose columns stand below each other. `left`:
// how many columns are text; the others are numbers.
std::string markdown(const std::vector<std::vector<std::string>>& rows, size_t left);

// Four decimals; three digits of what is beyond any loss.
std::string loss_text(double loss);

// A Markdown table, readable as it is: rank, the grids' values, mean, standard deviation, lowest and highest
// validation loss, seeds done; below it what has not ended well, run by run.
std::string table_of(const Definition& definition, const Results& results);

// "2 of 6 runs are missing: 1 failed, 1 pending"; empty if all are done.
std::string shortfall(const Results& results);

}  // namespace polar::sweep

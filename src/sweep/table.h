// The ranking as text.
#pragma once

#include <string>

#include "sweep/results.h"

namespace polar::sweep {

// A Markdown table, readable as it is: rank, the grids' values, mean, standard deviation, lowest and highest
// validation loss, seeds done; below it what has not ended well, run by run.
std::string table_of(const Definition& definition, const Results& results);

// "2 of 6 runs are missing: 1 failed, 1 pending"; empty if all are done.
std::string shortfall(const Results& results);

}  // namespace polar::sweep

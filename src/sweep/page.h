// The HTML report of a sweep.
#pragma once

#include <filesystem>
#include <string>

#include "sweep/results.h"

namespace polar::sweep {

// One page that needs no network: ranking, what has no result and why, loss over each key, heat maps, and the
// learning curves of the points (means over the seeds). Links lead to the runs' own reports, relative to the
// sweep's directory.
std::string render_sweep(const std::filesystem::path& sweep, const Definition& definition,
                         const Results& results);

}  // namespace polar::sweep

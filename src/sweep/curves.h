// The learning curves of a sweep: one a point, the mean over its seeds.
#pragma once

#include <filesystem>
#include <vector>

#include "report/run_data.h"
#include "sweep/results.h"

namespace polar::sweep {

// Column by column the mean over those tables that have a value at a step; the steps and tokens of all of
// them.
MetricsTable mean_of(const std::vector<MetricsTable>& seeds);

// In the order of the ranking, named by the points; of those that have logged anything. Runs that cannot be
// read are left out.
std::vector<RunData> mean_curves(const std::filesystem::path& sweep, const Definition& definition,
                                 const Results& results);

}  // namespace polar::sweep

// The paper's experiments: settings, learning rates and schedules of section 6 (arXiv 2505.21799), with the
// sizes that are the defaults of lab/problem.h.
#pragma once

#include <string>
#include <vector>

#include "lab/run.h"

namespace polar::lab {

struct Suite {
  std::string problem;  // "quadratic"
  std::string title;    // "1/2 ||A X B - C||^2, section 6.1"
  int64_t steps, every;
  std::vector<int64_t> table_steps;  // columns of the table
  std::vector<Setting> settings;     // in the order of the paper's figures; names tell them apart
};

Suite quadratic_suite();
Suite logistic_suite();
Suite completion_suite();

// "momentum polar_first 0.95, qdwh 2 refined, scale nuclear"
std::string rule_of(const Setting& setting);

}  // namespace polar::lab

// From an untyped tree to an Experiment: exact types, ranges, no unknown key, no missing one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/experiment.h"
#include "config/tree.h"

namespace polar {

// Throws Error (exit code 2) with place, dotted key, what was found and what was expected.
Experiment read_experiment(const ConfigNode& root);

// A group with the defaults of its YAML type: one of kGroupTypes (optim/config.h).
GroupConfig group_defaults(const std::string& type);

// Every dotted key of the table; positions in lists are written as "N": "optimizer.groups.N.betas".
std::vector<std::string> all_key_paths();

// The candidate nearest to `word` by edit distance, or empty when none is near.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace polar

// Routing: which optimizer group owns which parameter, by name patterns; first match wins, nothing unclaimed.
#pragma once

#include <string_view>
#include <vector>

#include "optim/config.h"
#include "tensor/registry.h"

namespace polar {

// Does the whole of `text` match `pattern`? `*` stands for any characters (none and dots included), `?` for
// exactly one.
bool glob_match(std::string_view pattern, std::string_view text);

// The group of every parameter, by parameter index. Errors (exit code 2): a parameter that no pattern
// matches; a pattern that matches no parameter; a group whose matches all went to groups before it; a matrix
// group that claims a parameter which is not a matrix.
std::vector<int> route_parameters(const std::vector<GroupConfig>& groups, const ParameterRegistry& registry);

}  // namespace polar

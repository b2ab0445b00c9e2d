// What must hold between the keys of a configuration, and the defaults that depend on other keys.
#pragma once

#include "config/experiment.h"
#include "config/tree.h"

namespace polar {

// Fills run.dir, model.head_dim and model.max_position_embeddings where they were left to their defaults,
// then throws Error (exit code 2) for an impossible combination; `root` tells where the keys were written.
void resolve_and_check(Experiment& experiment, const ConfigNode& root);

}  // namespace polar

// From an Experiment back to a tree: for the saved configuration, the reference file, hash and differences.
#pragma once

#include "config/experiment.h"
#include "config/tree.h"

namespace polar {

enum class WriteKeys { all, changing_the_result };

// Every key that applies, in the order of the table. With `comments` each key carries its meaning, type, unit
// and default as a comment, once per dotted key.
ConfigNode to_tree(const Experiment& experiment, WriteKeys keys = WriteKeys::all, bool comments = false);

}  // namespace polar

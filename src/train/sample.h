// A sample of text at the end of a run.
#pragma once

#include <string>

#include "config/experiment.h"
#include "model/model.h"
#include "ops/ops.h"

namespace polar {

// About one hundred tokens that follow the configured tokenizer's end-of-document token (or id 0), by the
// run's seed; empty if no tokenizer is configured.
std::string sample_text(Ops& ops, const Model& model, const Experiment& experiment);

}  // namespace polar

// What a run measures of its optimizer every so many steps (log.diagnostics_every_steps).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "config/experiment.h"
#include "optim/spectrum.h"
#include "plan/run_plan.h"

namespace polar {

// (quantity, (family or parameter, value)).
using DiagnosticValues = std::vector<std::pair<std::string, std::vector<std::pair<std::string, double>>>>;

// By family of matrices ("mlp.up_proj"; the first layer's matrix stands for all), of rules with an orthogonal
// factor: nuclear_share <U,M> / ||M||_*, nuclear ||M||_*, condition, orthogonality, update_rms, effective_lr
// (optim/diagnosis.h). By parameter, of the mean gradient before clipping: gradient_condition,
// gradient_nuclear. A condition above 1e7 is infinite. Of a gradient that is cut over the ranks nothing is
// measured.
class Diagnostics {
 public:
  // Error (exit code 2): a pattern of log.spectra that no parameter matches, if it is not a default's.
  Diagnostics(const Experiment& experiment, const RunPlan& plan, Communicator& comm);

  // After the update of `step` (from 0), whose outcome was read, before anything else is queued. On all ranks
  // at once; the same result on all. The device is waited for.
  DiagnosticValues measure(Ops& ops, const StepTensors& tensors, int64_t step, double gradient_norm,
                           double raw_gradient_norm);

 private:
  struct Matrix {
    std::string parameter, label;
  };
  void add_gradients(const Experiment& experiment, const RunPlan& plan);
  // Where the whole gradient of a parameter is in `gradients`; -1: not on this rank.
  int64_t place_of_gradient(const RunPlan& plan, int parameter) const;

  const RunPlan& plan_;
  Communicator& comm_;
  Spectrum spectrum_;
  std::vector<Matrix> matrices_;
  std::vector<std::pair<int, std::string>> gradients_;  // parameter, label
};

}  // namespace polar

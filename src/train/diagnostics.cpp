#include "train/diagnostics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "optim/oracle.h"
#include "optim/routing.h"

namespace polar {
namespace {

// "model.layers.*.mlp.up_proj.weight" -> "mlp.up_proj".
std::string short_name(std::string name) {
  for (const std::string_view prefix : {"model.", "layers.*.", "self_attn."})
    if (name.starts_with(prefix)) name.erase(0, prefix.size());
  if (name.ends_with(".weight")) name.erase(name.size() - std::string_view(".weight").size());
  return name;
}

// Values that one rank each has found, or none.
class Shared {
 public:
  void add(std::optional<double> value) {
    numbers_.push_back(value.value_or(0.0));
    numbers_.push_back(value ? 1.0 : 0.0);
  }
  void exchange(Communicator& comm) {
    if (comm.world_size() > 1) comm.all_reduce_sum(std::span<double>(numbers_));
  }
  std::optional<double> next() {
    const double value = numbers_[place_], known = numbers_[place_ + 1];
    place_ += 2;
    return known > 0.0 ? std::optional(value) : std::nullopt;
  }

 private:
  std::vector<double> numbers_;
  size_t place_ = 0;
};

struct Quantity {
  const char* name;
  double (*of)(const Diagnosis&);
};
// What one rank finds alone must not keep it from the others: a value that cannot be had is none.
template <class Work>
auto attempt(const std::string& what, const Work& work) -> decltype(work()) {
  try {
    return work();
  } catch (const Error& error) {
    log::warning("diagnostics of {}: {}", what, error.what());
    return {};
  }
}

constexpr Quantity kQuantities[] = {
    {"nuclear_share", [](const Diagnosis& d) { return d.nuclear > 0.0 ? d.inner / d.nuclear : 0.0; }},
    {"nuclear", [](const Diagnosis& d) { return d.nuclear; }},
    {"condition", [](const Diagnosis& d) { return d.condition; }},
    {"orthogonality", [](const Diagnosis& d) { return d.orthogonality; }},
    {"update_rms", [](const Diagnosis& d) { return d.update_rms; }},
    {"effective_lr", [](const Diagnosis& d) { return d.effective_lr; }}};

}  // namespace

Diagnostics::Diagnostics(const Experiment& experiment, const RunPlan& plan, Communicator& comm)
    : plan_(plan), comm_(comm), spectrum_(static_cast<int>(experiment.run.threads)) {
  const auto& parameters = plan.model.registry().parameters();
  const std::vector<int> routes = route_parameters(experiment.optimizer.groups, plan.model.registry());
  std::set<std::string> families;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const GroupConfig& group = experiment.optimizer.groups[static_cast<size_t>(routes[i])];
    if (group.type != GroupType::matrix || takes_vectors(group.oracle.kind)) continue;
    const std::string family = family_of(parameters[i].name);
    if (families.insert(family).second) matrices_.push_back({parameters[i].name, short_name(family)});
  }
  add_gradients(experiment, plan);
}

void Diagnostics::add_gradients(const Experiment& experiment, const RunPlan& plan) {
  const auto& parameters = plan.model.registry().parameters();
  const bool default_patterns = experiment.log.spectra == LogConfig{}.spectra;
  for (const std::string& pattern : experiment.log.spectra) {
    bool matched = false;
    for (size_t i = 0; i < parameters.size(); ++i) {
      const Parameter& parameter = parameters[i];
      if (!glob_match(pattern, parameter.name)) continue;
      matched = true;
      const bool known = std::any_of(gradients_.begin(), gradients_.end(), [&](const auto& gradient) {
        return gradient.first == static_cast<int>(i);
      });
      if (parameter.shape.rank() != 2 || known) continue;
      const auto owned = static_cast<double>(place_of_gradient(plan, static_cast<int>(i)) >= 0);
      double owners = owned;
      comm_.all_reduce_sum(std::span<double>(&owners, 1));
      if (owners > 0.0)
        gradients_.emplace_back(static_cast<int>(i), short_name(parameter.name));
      else
        log::warning(
            "log.spectra: the gradient of {} is cut over the ranks, no rank has it whole: it is not measured "
            "(a matrix rule for it, or one rank, would do)",
            parameter.name);
    }
    if (!matched && !default_patterns)
      fail_usage("log.spectra: pattern \"{}\" matches no parameter of the model (the first is named {})",
                 pattern, parameters.front().name);
  }
}

int64_t Diagnostics::place_of_gradient(const RunPlan& plan, int parameter) const {
  if (!plan.shards) return plan.model.registry()[parameter].offset;
  for (size_t b = 0; b < plan.shards->buckets().size(); ++b)
    for (const Bucket::Piece& piece : plan.shards->buckets()[b].pieces)
      if (piece.parameter == parameter && piece.owner == plan.topology.rank &&
          piece.count == plan.model.registry()[parameter].count())
        return plan.shards->own_offset(b) + piece.position;
  return -1;
}

DiagnosticValues Diagnostics::measure(Ops& ops, const StepTensors& tensors, int64_t step,
                                      double gradient_norm, double raw_gradient_norm) {
  Shared shared;
  for (const Matrix& matrix : matrices_) {
    const auto found = attempt(matrix.parameter, [&] {
      return plan_.optimizer.diagnose(matrix.parameter, step, tensors, spectrum_);
    });
    for (const Quantity& quantity : kQuantities)
      shared.add(found ? std::optional(quantity.of(*found)) : std::nullopt);
  }
  const double scale = raw_gradient_norm > 0.0 ? gradient_norm / raw_gradient_norm : 1.0;
  for (const auto& [parameter, label] : gradients_) {
    std::vector<double> sigma;
    if (const int64_t place = place_of_gradient(plan_, parameter); place >= 0)
      sigma = attempt(label, [&] {
        const Shape& shape = plan_.model.registry()[parameter].shape;
        std::vector<double> values = download_values(ops, tensors.gradients.slice(place, shape));
        return spectrum_.singular_values(values, shape[0], shape[1]);
      });
    std::optional<double> condition, nuclear;
    if (!sigma.empty()) {
      condition = sigma.back() > 0.0 ? sigma.front() / sigma.back() : std::numeric_limits<double>::infinity();
      nuclear = scale * std::accumulate(sigma.begin(), sigma.end(), 0.0);
    }
    shared.add(condition);
    shared.add(nuclear);
  }
  shared.exchange(comm_);

  DiagnosticValues all;
  for (const Quantity& quantity : kQuantities) all.emplace_back(quantity.name, decltype(all[0].second){});
  for (const Matrix& matrix : matrices_)
    for (auto& [name, values] : all)
      if (const auto value = shared.next()) values.emplace_back(matrix.label, *value);
  all.emplace_back("gradient_condition", decltype(all[0].second){});
  all.emplace_back("gradient_nuclear", decltype(all[0].second){});
  for (const auto& [parameter, label] : gradients_)
    for (size_t i = all.size() - 2; i < all.size(); ++i)
      if (const auto value = shared.next()) all[i].second.emplace_back(label, *value);
  std::erase_if(all, [](const auto& quantity) { return quantity.second.empty(); });
  return all;
}

}  // namespace polar

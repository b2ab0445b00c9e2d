#include "plan_simulate.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "config/describe.h"
#include "config/hardware.h"
#include "model/registry.h"
#include "plan/precision.h"
#include "plan/recommend.h"
#include "tensor/memory_plan.h"

namespace polar {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMostRanks = 1024;  // where nobody says how many

std::string name_of_level(Recompute level) {
  return std::string(EnumNames<Recompute>::names.at(static_cast<size_t>(level)));
}

const char* name_of_sharding(const Simulation& s) {
  return s.shards_gradients ? "gradients" : "optimizer";
}
const char* name_of_dtype(const Simulation& s) {
  return s.gradient_dtype == DType::bf16 ? "bf16" : "fp32";
}

// Seconds of all micro-batches and of the rest, by what they go into.
Json components_of(const Simulation& s) {
  Cost model = s.forward;
  model += s.backward;
  return {{"gemm", model.gemm},
          {"attention", model.attention},
          {"memory_bound", model.memory},
          {"launches", model.launches + s.update.launches},
          {"polar", s.update.polar},
          {"element_wise", s.update.element_wise},
          {"packing", s.other},
          {"reduce_scatter", s.timeline.reduce_scatter},
          {"all_gather", s.timeline.all_gather}};
}

Json json_of(const Simulation& s) {
  const Timeline& t = s.timeline;
  return {{"micro_sequences", s.micro_sequences},
          {"micro_steps", s.micro_steps},
          {"recompute", name_of_level(s.recompute)},
          {"sharding", name_of_sharding(s)},
          {"gradient_dtype", name_of_dtype(s)},
          {"step_s", t.step},
          {"step_without_overlap_s", s.step_without_overlap},
          {"forward_s", s.forward.sum()},
          {"backward_s", s.backward.sum()},
          {"optimizer_s", s.update.sum()},
          {"components_s", components_of(s)},
          {"exposed_s", t.exposed()},
          {"exposed_weights_s", t.exposed_weights},
          {"exposed_gradients_s", t.exposed_gradients},
          {"exposed_scalars_s", t.exposed_scalars},
          {"tokens_per_s", s.tokens_per_s},
          {"mfu", s.mfu},
          {"padding", s.padding},
          {"imbalance", s.imbalance},
          {"elements_sent", s.elements_sent},
          {"bytes_sent", s.bytes_sent},
          {"memory_bytes", s.memory_bytes},
          {"capacity_bytes", s.capacity_bytes},
          {"fits", s.fits()}};
}

Json json_of(const std::vector<Scaling>& all, const Scaling* chosen, const Hardware& hardware,
             const Experiment& experiment) {
  Json rows = Json::array();
  for (const Scaling& scaling : all) {
    Json row{{"ranks", scaling.ranks}};
    if (!scaling.refusal.empty()) row["refusal"] = scaling.refusal;
    if (scaling.configured) row["configured"] = json_of(*scaling.configured);
    if (scaling.best) row["best"] = json_of(*scaling.best);
    if (scaling.best) row["efficiency"] = scaling.efficiency;
    rows.push_back(row);
  }
  Json json{{"hardware", hardware.name},
            {"run", experiment.run.name},
            {"parameters", make_registry(experiment.model).parameter_count()},
            {"global_tokens", experiment.batch.global_tokens},
            {"rows", rows}};
  if (chosen)
    json["recommended"] = {{"ranks", chosen->ranks},
                           {"batch.micro_sequences", chosen->best->micro_sequences},
                           {"train.recompute", name_of_level(chosen->best->recompute)},
                           {"distributed.sharding", name_of_sharding(*chosen->best)},
                           {"distributed.gradient_dtype", name_of_dtype(*chosen->best)}};
  return json;
}

void print_configured(const std::vector<Scaling>& all) {
  std::printf("as configured, milliseconds of a step (micro_sequences lowered to what divides a rank's)\n");
  std::printf("%5s %9s %9s %9s %8s %9s %8s %8s %8s %8s %9s %6s %10s %10s\n", "ranks", "micro", "products",
              "attention", "kernels", "optimizer", "packing", "scatter", "gather", "exposed", "step", "MFU",
              "tokens/s", "memory");
  for (const Scaling& scaling : all) {
    if (!scaling.configured) {
      std::printf("%5d %s\n", scaling.ranks, scaling.refusal.c_str());
      continue;
    }
    const Simulation& s = *scaling.configured;
    Cost model = s.forward;
    model += s.backward;
    std::printf("%5d %9s %9.2f %9.2f %8.2f %9.2f %8.2f %8.2f %8.2f %8.2f %9.2f %5.1f%% %10.0f %10s%s\n",
                s.ranks, fmt::format("{} x {}", s.micro_steps, s.micro_sequences).c_str(), 1e3 * model.gemm,
                1e3 * model.attention, 1e3 * (model.memory + model.launches), 1e3 * s.update.sum(),
                1e3 * s.other, 1e3 * s.timeline.reduce_scatter, 1e3 * s.timeline.all_gather,
                1e3 * s.timeline.exposed(), 1e3 * s.timeline.step, 100.0 * s.mfu, s.tokens_per_s,
                format_bytes(s.memory_bytes).c_str(), s.fits() ? "" : " too much");
  }
}

void print_best(const std::vector<Scaling>& all) {
  std::printf("\nfastest settings that fit; efficiency: tokens a second and rank over the first row's\n");
  std::printf("%5s %9s %9s %9s %9s %9s %8s %10s %6s %10s %10s %10s\n", "ranks", "micro", "recompute",
              "sharding", "gradients", "step ms", "exposed", "no overlap", "MFU", "tokens/s", "efficiency",
              "memory");
  for (const Scaling& scaling : all) {
    if (!scaling.best) {
      if (scaling.refusal.empty()) std::printf("%5d nothing fits\n", scaling.ranks);
      continue;
    }
    const Simulation& s = *scaling.best;
    std::printf("%5d %9s %9s %9s %9s %9.2f %7.1f%% %10.2f %5.1f%% %10.0f %9.1f%% %10s\n", s.ranks,
                fmt::format("{} x {}", s.micro_steps, s.micro_sequences).c_str(),
                name_of_level(s.recompute).c_str(), name_of_sharding(s), name_of_dtype(s),
                1e3 * s.timeline.step, 100.0 * s.timeline.exposed() / s.timeline.step,
                1e3 * s.step_without_overlap, 100.0 * s.mfu, s.tokens_per_s, 100.0 * scaling.efficiency,
                format_bytes(s.memory_bytes).c_str());
  }
}

void print_recommended(const Scaling* chosen, const SimulateOptions& options, const Hardware& hardware,
                       const Experiment& experiment) {
  if (!chosen) {
    std::printf(
        "\nnothing fits: a larger train.recompute or smaller data.sequence_length is not enough here\n");
    return;
  }
  const int64_t nodes = chosen->best->nodes;
  std::printf("\nmost ranks with an efficiency of at least %.0f %%: %d, on %lld node%s. Set:\n\n%s",
              100.0 * options.efficiency, chosen->ranks, static_cast<long long>(nodes), nodes == 1 ? "" : "s",
              settings_yaml(*chosen->best, experiment).c_str());
  std::printf("\npolartrain launch --nnodes %lld --nproc-per-node %lld train ...\n",
              static_cast<long long>(nodes),
              static_cast<long long>(std::min<int64_t>(chosen->ranks, hardware.node.devices)));
}

std::vector<int> ascending(std::vector<int> ranks) {
  if (ranks.empty())
    for (int n = 1; n <= kMostRanks; n *= 2) ranks.push_back(n);
  std::sort(ranks.begin(), ranks.end());
  ranks.erase(std::unique(ranks.begin(), ranks.end()), ranks.end());
  return ranks;
}

}  // namespace

ExitCode print_simulation(const Experiment& experiment, const SimulateOptions& options) {
  const Hardware hardware = load_hardware(options.hardware);
  DeviceOptions device{.device = hardware.device.backend, .attention_engine = experiment.attention.engine};
  device.plan_only = true;
  const auto ops = make_ops(device);
  const std::vector<Scaling> all = simulate_all(experiment, *ops, hardware, ascending(options.ranks));
  const Scaling* chosen = largest_worth_it(all, options.efficiency);
  if (options.json) {
    std::printf("%s\n", json_of(all, chosen, hardware, experiment).dump().c_str());
    return ExitCode::done;
  }
  std::printf("%s on %s: a model of both (src/plan/step_cost.h), nothing measured\n",
              experiment.run.name.c_str(), hardware.name.c_str());
  for (const PrecisionGap& gap : precision_gaps(experiment.precision, *ops))
    std::printf("%s %s: this device computes in %s\n", gap.key.c_str(), gap.found.c_str(),
                gap.expected.c_str());
  std::printf("%lld parameters, %lld tokens a step in sequences of %lld\n\n",
              static_cast<long long>(make_registry(experiment.model).parameter_count()),
              static_cast<long long>(experiment.batch.global_tokens),
              static_cast<long long>(experiment.data.sequence_length));
  print_configured(all);
  print_best(all);
  print_recommended(chosen, options, hardware, experiment);
  return ExitCode::done;
}

}  // namespace polar

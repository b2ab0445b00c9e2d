// polartrain plan
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command.h"
#include "config/experiment.h"
#include "plan/precision.h"
#include "plan/run_plan.h"
#include "plan_simulate.h"

namespace polar {
namespace {

struct PlanOptions {
  std::string config;
  std::vector<std::string> overrides;
  std::string device, memory;
  int world_size = 1;
  bool buffers = false, json = false;
  SimulateOptions simulate;
};

// What the driver, its context and the libraries take beside our own allocations (seen: 0.5 to 0.9 GiB).
constexpr size_t kContextBytes = size_t{1} << 30;

// "80GiB", "80GB" or a number of bytes.
size_t parse_bytes(const std::string& text) {
  size_t used = 0;
  double value = -1.0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const std::string unit = text.substr(used);
  const std::pair<const char*, double> units[] = {
      {"", 1.0}, {"GiB", 0x1p30}, {"MiB", 0x1p20}, {"GB", 1e9}, {"MB", 1e6}};
  for (const auto& [name, factor] : units)
    if (used > 0 && value > 0.0 && value * factor < 0x1p60 && unit == name)
      return static_cast<size_t>(value * factor);
  fail_usage("--memory: found '{}', expected a size such as 80GiB, 80GB or 24000MiB", text);
}

// For each level of recomputation the largest micro-batch whose plan fits.
void print_fits(const Experiment& experiment, const Ops& ops, const Topology& ranks, size_t memory) {
  std::printf("largest micro-batch in %s, of which %s are left to the driver and its libraries\n",
              format_bytes(memory).c_str(), format_bytes(kContextBytes).c_str());
  std::printf("%-10s %16s %14s %12s\n", "recompute", "micro_sequences", "tokens", "needs");
  const int64_t sequences =
      experiment.batch.global_tokens / experiment.data.sequence_length / ranks.world_size;
  for (const auto& [name, level] :
       {std::pair{"none", Recompute::none}, {"mlp", Recompute::mlp}, {"layer", Recompute::layer}}) {
    int64_t best = 0;
    size_t best_bytes = 0;
    for (int64_t micro = 1; micro <= sequences; ++micro) {
      if (sequences % micro != 0) continue;
      Experiment candidate = experiment;
      candidate.train.recompute = level;
      candidate.batch.micro_sequences = micro;
      const size_t bytes = RunPlan(candidate, ops, ranks).device.total_bytes();
      if (bytes + kContextBytes > memory) break;
      best = micro;
      best_bytes = bytes;
    }
    if (best == 0)
      std::printf("%-10s %16s\n", name, "none fits");
    else
      std::printf("%-10s %16lld %14lld %12s\n", name, static_cast<long long>(best),
                  static_cast<long long>(best * experiment.data.sequence_length),
                  format_bytes(best_bytes).c_str());
  }
}

nlohmann::ordered_json json_of(const RunPlan& plan) {
  const ShardPlan& shards = *plan.shards;
  return {{"world_size", shards.world_size()},
          {"layers_per_bucket", shards.layers_per_bucket()},
          {"buckets", shards.buckets().size()},
          {"padding", shards.padding()},
          {"imbalance", shards.imbalance()},
          {"own_elements", shards.own_elements()},
          {"elements_sent_a_step", shards.elements_sent()},
          {"bytes_sent_a_step", plan.bytes_sent()}};
}

void print_shards(const RunPlan& plan) {
  const ShardPlan& shards = *plan.shards;
  std::printf("\nsharing among %d ranks (the memory above is rank 0's)\n%s", shards.world_size(),
              shards.table().c_str());
  std::printf("\nmatrices: %lld layers a bucket, padding %.3f, largest load %.3f of the mean\n",
              static_cast<long long>(shards.layers_per_bucket()), shards.padding(), shards.imbalance());
  std::printf("a rank sends %s a step: gradients to their owners%s, weights back\n",
              format_bytes(static_cast<size_t>(plan.bytes_sent())).c_str(),
              plan.shards_gradients ? " in every micro-batch" : "");
}

ExitCode run(const PlanOptions& options) {
  const Experiment experiment = load_experiment(options.config, options.overrides);
  if (!options.simulate.hardware.empty()) {
    SimulateOptions simulate = options.simulate;
    simulate.json = options.json;
    return print_simulation(experiment, simulate);
  }
  DeviceOptions device{.device = options.device.empty() ? experiment.run.device : options.device,
                       .threads = static_cast<int>(experiment.run.threads),
                       .attention_engine = experiment.attention.engine};
  device.plan_only = true;
  const auto ops = make_ops(device);
  const size_t memory = options.memory.empty() ? 0 : parse_bytes(options.memory);
  const RunPlan plan(experiment, *ops, {.rank = 0, .world_size = options.world_size});
  const int64_t parameters = plan.model.registry().parameter_count();
  if (options.json) {
    nlohmann::ordered_json json{{"parameters", parameters},
                                {"device_bytes", plan.device.total_bytes()},
                                {"host_bytes", plan.host.total_bytes()},
                                {"micro_sequences", plan.micro_sequences},
                                {"micro_steps", plan.micro_steps}};
    if (plan.shards) json["sharding"] = json_of(plan);
    std::printf("%s\n", json.dump().c_str());
    return ExitCode::done;
  }
  for (const PrecisionGap& gap : precision_gaps(experiment.precision, *ops))
    std::printf("%s %s: this device computes in %s; the sizes below are %s's\n", gap.key.c_str(),
                gap.found.c_str(), gap.expected.c_str(), gap.expected.c_str());
  std::printf(
      "parameters %lld\n%lld micro-batches of %lld sequences of %lld tokens a step\n\non the device\n%s\n",
      static_cast<long long>(parameters), static_cast<long long>(plan.micro_steps),
      static_cast<long long>(plan.micro_sequences), static_cast<long long>(experiment.data.sequence_length),
      plan.device.table(options.buffers).c_str());
  std::printf("on the host\n%s\noptimizer\n%s", plan.host.table(options.buffers).c_str(),
              plan.optimizer_table.c_str());
  if (plan.shards) print_shards(plan);
  if (memory > 0) {
    std::printf("\n");
    print_fits(experiment, *ops, plan.topology, memory);
  }
  return ExitCode::done;
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* command =
      app.add_subcommand("plan", "Print the memory and the optimizer's routing of a run; allocates nothing");
  command->add_option("config", options->config, "The experiment")->required();
  command->add_option("overrides", options->overrides, "Dotted keys, e.g. batch.micro_sequences=4");
  CLI::Option* device = command
                            ->add_option("--device", options->device,
                                         "Plan for cpu or cuda, there or not (default: run.device)")
                            ->type_name("NAME");
  CLI::Option* memory =
      command
          ->add_option(
              "--memory", options->memory,
              "Memory of the device, e.g. 80GiB: print the largest micro-batch that fits at each level "
              "of train.recompute")
          ->type_name("SIZE");
  CLI::Option* world_size =
      command
          ->add_option("--world-size", options->world_size,
                       "Plan for so many ranks: who owns what, padding, balance, and what travels")
          ->type_name("N")
          ->check(CLI::Range(1, 1 << 16));
  CLI::Option* buffers = command->add_flag("--buffers", options->buffers, "List every buffer");
  command->add_flag("--json", options->json, "Print one JSON object with the totals");
  CLI::Option* simulate =
      command
          ->add_option("--simulate", options->simulate.hardware,
                       "Predict step time, MFU, exposed communication and memory on this hardware\n"
                       "(configs/hardware describes some), and recommend settings")
          ->type_name("HARDWARE.yaml");
  for (CLI::Option* other : {device, memory, world_size, buffers}) simulate->excludes(other);
  command
      ->add_option("--ranks", options->simulate.ranks, "With --simulate: for so many ranks (1,2,4,...,1024)")
      ->type_name("N,N,...")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(1, 1 << 16))
      ->needs(simulate);
  command
      ->add_option(
          "--efficiency", options->simulate.efficiency,
          "With --simulate: recommend the most ranks with at least this share of the tokens a second\n"
          "and rank of the fewest (0.9)")
      ->type_name("SHARE")
      ->check(CLI::Range(0.0, 1.0))
      ->needs(simulate);
  command->footer(
      "Example: polartrain plan configs/models/qwen3-1.7b.yaml --simulate configs/hardware/8xh100.yaml\n"
      "Example: polartrain plan configs/models/qwen2.5-0.5b.yaml --device cuda --memory 80GB "
      "precision.compute=bf16");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace polar

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

namespace polar {
namespace {

struct PlanOptions {
  std::string config;
  std::vector<std::string> overrides;
  bool buffers = false, json = false;
};

ExitCode run(const PlanOptions& options) {
  const Experiment experiment = load_experiment(options.config, options.overrides);
  const auto ops = make_ops({experiment.run.device, static_cast<int>(experiment.run.threads)});
  const RunPlan plan(experiment, *ops);
  const int64_t parameters = plan.model.registry().parameter_count();
  if (options.json) {
    const nlohmann::ordered_json json{{"parameters", parameters},
                                      {"device_bytes", plan.device.total_bytes()},
                                      {"host_bytes", plan.host.total_bytes()},
                                      {"micro_sequences", plan.micro_sequences},
                                      {"micro_steps", plan.micro_steps}};
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
              plan.optimizer.table().c_str());
  return ExitCode::done;
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* command =
      app.add_subcommand("plan", "Print the memory and the optimizer's routing of a run; allocates nothing");
  command->add_option("config", options->config, "The experiment")->required();
  command->add_option("overrides", options->overrides, "Dotted keys, e.g. batch.micro_sequences=4");
  command->add_flag("--buffers", options->buffers, "List every buffer");
  command->add_flag("--json", options->json, "Print one JSON object with the totals");
  command->footer("Example: polartrain plan configs/models/qwen3-0.6b.yaml train.recompute=layer");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace polar

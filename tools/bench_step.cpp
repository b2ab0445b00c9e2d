// polartrain bench step: a whole training step of an experiment on random ids.
#include <algorithm>
#include <cstdio>

#include "base/random.h"
#include "bench.h"
#include "plan/precision.h"
#include "plan/run_plan.h"

namespace polar::bench {
namespace {

// A training step on random ids: everything but the data loader.
class RandomStep {
 public:
  RandomStep(const Experiment& experiment, Ops& ops)
      : ops_(ops), plan_(experiment, ops), memory_(plan_.device, ops, MemoryKind::device) {
    plan_.model.bind(ops, memory_.arena());
    plan_.optimizer.bind(ops, memory_.arena());
    plan_.model.initialize(experiment.run.seed);
    fill_batch(experiment);
    set_control(experiment);
    forward_backward_ = ops.repeat(
        [this] { plan_.model.forward_backward(batch_, 1.0 / control_.gradient_tokens, control_.loss_sum); });
    update_ = ops.repeat([this] { update(); });
  }

  // Queues forward and backward of a whole step.
  void run_model() {
    ops_.fill(plan_.model.gradients(), 0.0);
    ops_.fill(control_.loss_sum, 0.0);
    for (int64_t micro = 0; micro < plan_.micro_steps; ++micro) forward_backward_->run();
  }
  void run() {
    run_model();
    update_->run();
  }
  int64_t parameters() const { return plan_.model.registry().parameter_count(); }
  std::string optimizer() const { return plan_.optimizer.group_names().front(); }

 private:
  void update() {
    ops_.exact_squares(plan_.model.gradients(), memory_[plan_.square_digits], false);
    ops_.exact_value(memory_[plan_.square_digits], control_.gradient_squares);
    ops_.step_control(control_);
    plan_.optimizer.step({.parameters = plan_.model.parameters(),
                          .gradients = plan_.model.gradients(),
                          .weights = plan_.model.rounded_weights(),
                          .control = control_.control,
                          .learning_rates = rates_},
                         plan_.optimizer.phase(1));
  }
  void fill_batch(const Experiment& experiment) {
    batch_.batch = plan_.micro_sequences;
    batch_.time = experiment.data.sequence_length;
    batch_.ids = memory_[plan_.input[0].ids];
    batch_.targets = memory_[plan_.input[0].targets];
    std::vector<int32_t> ids(static_cast<size_t>(batch_.ids.count()));
    for (size_t i = 0; i < ids.size(); ++i)
      ids[i] =
          static_cast<int32_t>(random_bits(1, 3, i) % static_cast<uint64_t>(experiment.model.vocab_size));
    ops_.upload(batch_.ids, ids.data());
    std::rotate(ids.begin(), ids.begin() + 1, ids.end());
    ops_.upload(batch_.targets, ids.data());
  }
  void set_control(const Experiment& experiment) {
    control_.loss_sum = memory_[plan_.loss_sum];
    control_.gradient_squares = memory_[plan_.gradient_squares];
    control_.gradient_tokens = static_cast<double>(experiment.batch.global_tokens);
    const Tensor inputs = memory_[plan_.step_inputs];
    control_.valid_tokens = inputs.slice(0, {1});
    rates_ = inputs.slice(1, {inputs.count() - 1});
    std::vector<double> values = plan_.optimizer.learning_rates(0);
    values.insert(values.begin(), control_.gradient_tokens);
    ops_.upload(inputs, values.data());
    control_.clip_norm = experiment.optimizer.clip_norm;
    control_.guard = false;
    control_.window = memory_[plan_.guard_window];
    control_.guard_window = experiment.guard.window;
    control_.control = memory_[plan_.control];
    ops_.fill(control_.control, 0.0);
    ops_.fill(control_.window, 0.0);
  }

  Ops& ops_;
  RunPlan plan_;
  PlannedMemory memory_;
  ModelBatch batch_;
  StepControl control_;
  Tensor rates_;
  std::unique_ptr<Repeated> forward_backward_, update_;  // as the trainer repeats them
};

}  // namespace

ExitCode bench_step(const Options& options) {
  const Experiment e = load_experiment(options.config, options.overrides);
  if (e.distributed.reduction != "fast")
    fail_usage("distributed.reduction: found {}, which this benchmark does not know; expected fast",
               e.distributed.reduction);
  const auto ops =
      make_ops({.device = e.run.device,
                .threads = static_cast<int>(options.threads > 0 ? options.threads : e.run.threads),
                .gemm_cache = e.run.gemm_cache,
                .attention_engine = e.attention.engine});
  check_precision(e.precision, *ops);
  const DType dtype = e.precision.compute == "bf16" ? DType::bf16 : DType::f32;
  const double peak = gemm_peak(*ops, options, dtype);
  RandomStep step(e, *ops);
  const Timing t = measure(*ops, options.repeats, [&] { step.run(); });
  const Timing model = measure(*ops, std::min<int64_t>(options.repeats, 5), [&] { step.run_model(); });
  const auto tokens = static_cast<double>(e.batch.global_tokens);
  const double flops = flops_per_token(e.model, e.data.sequence_length) * tokens;
  const PeakRate card = ops->peak_rate(dtype);
  if (options.json) {
    nlohmann::ordered_json json{{"device", ops->device_name()},
                                {"parameters", step.parameters()},
                                {"optimizer", step.optimizer()},
                                {"tokens_per_s", tokens / t.median},
                                {"spread", t.spread},
                                {"step_ms", 1e3 * t.median},
                                {"model_ms", 1e3 * model.median},
                                {"gemm_peak_gflops", 1e-9 * peak},
                                {"model_flops_per_step", flops},
                                {"share_of_peak", flops / model.median / peak}};
    if (card.flops > 0) json["mfu"] = flops / t.median / card.flops;
    std::printf("%s\n", json.dump().c_str());
    return ExitCode::done;
  }
  std::printf(
      "%s\n%lld parameters, %lld tokens a step\nstep            %8.2f ms (spread %.1f %%)  %.0f tokens/s\n",
      ops->device_name().c_str(), static_cast<long long>(step.parameters()),
      static_cast<long long>(e.batch.global_tokens), 1e3 * t.median, 100.0 * t.spread, tokens / t.median);
  std::printf("  model         %8.2f ms, %.1f GFLOP/s = %.1f %% of the measured GEMM peak (%.0f GFLOP/s)\n",
              1e3 * model.median, 1e-9 * flops / model.median, 100.0 * flops / model.median / peak,
              1e-9 * peak);
  std::printf("  optimizer     %8.2f ms\n", 1e3 * (t.median - model.median));
  if (card.flops > 0)
    std::printf("  MFU           %8.1f %% of %.1f TFLOP/s (%s)\n", 100.0 * flops / t.median / card.flops,
                1e-12 * card.flops, card.source.c_str());
  return ExitCode::done;
}

}  // namespace polar::bench

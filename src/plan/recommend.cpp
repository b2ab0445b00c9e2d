#include "plan/recommend.h"

#include <utility>

#include "base/error.h"
#include "config/describe.h"

namespace polar {
namespace {

using Best = std::optional<Simulation>;

// The fastest of what fits; of equally fast ones the first, with little recomputation and a small
// micro-batch.
Best best_of(const RankSimulator& simulator) {
  Best best;
  for (const Recompute level : {Recompute::none, Recompute::mlp, Recompute::layer})
    for (int64_t micro = 1; micro <= simulator.sequences(); ++micro) {
      if (simulator.sequences() % micro != 0) continue;
      Simulation candidate = simulator.run(micro, level);
      if (!candidate.fits()) break;  // nor will larger ones
      if (!best || candidate.timeline.step < best->timeline.step) best = std::move(candidate);
    }
  return best;
}

// `other` has to be faster by this share of a step.
Best choose(Best first, Best other, double worth) {
  if (!first || (other && other->timeline.step < (1.0 - worth) * first->timeline.step)) return other;
  return first;
}

Best best_settings(const Experiment& experiment, const Ops& ops, const Hardware& hardware, int ranks) {
  Experiment e = experiment;
  const auto with = [&](const char* dtype, const char* sharding) {
    e.distributed.gradient_dtype = dtype;
    e.distributed.sharding = sharding;
    return best_of(RankSimulator(e, ops, hardware, ranks));
  };
  Best exact = with("fp32", "optimizer");
  if (ranks == 1) return exact;  // nothing travels
  exact = choose(std::move(exact), with("fp32", "gradients"), kWorthSharding);
  Best rounded = choose(with("bf16", "optimizer"), with("bf16", "gradients"), kWorthSharding);
  return choose(std::move(exact), std::move(rounded), kWorthRounding);
}

}  // namespace

std::vector<Scaling> simulate_all(const Experiment& experiment, const Ops& ops, const Hardware& hardware,
                                  const std::vector<int>& ranks) {
  std::vector<Scaling> all;
  std::optional<double> first;  // tokens a second and rank
  for (const int n : ranks) {
    Scaling& scaling = all.emplace_back();
    scaling.ranks = n;
    try {
      scaling.configured = RankSimulator(experiment, ops, hardware, n).run();
      scaling.best = best_settings(experiment, ops, hardware, n);
    } catch (const Error& error) {
      if (error.code() != ExitCode::bad_usage) throw;
      scaling.refusal = error.what();
    }
    if (!scaling.best) continue;
    const double each = scaling.best->tokens_per_s / static_cast<double>(n);
    if (!first) first = each;
    scaling.efficiency = each / *first;
  }
  return all;
}

const Scaling* largest_worth_it(const std::vector<Scaling>& all, double efficiency) {
  const Scaling* largest = nullptr;
  for (const Scaling& scaling : all)
    if (scaling.best && scaling.efficiency >= efficiency) largest = &scaling;
  return largest;
}

std::string settings_yaml(const Simulation& s, const Experiment& experiment) {
  std::string text =
      fmt::format("batch:\n  global_tokens: {}\n  micro_sequences: {}\ntrain:\n  recompute: {}\n",
                  experiment.batch.global_tokens, s.micro_sequences,
                  EnumNames<Recompute>::names.at(static_cast<size_t>(s.recompute)));
  if (s.ranks > 1)
    text += fmt::format("distributed:\n  sharding: {}\n  gradient_dtype: {}\n",
                        s.shards_gradients ? "gradients" : "optimizer",
                        s.gradient_dtype == DType::bf16 ? "bf16" : "fp32");
  return text;
}

}  // namespace polar

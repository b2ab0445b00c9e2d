#include "config/checks.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace polar {
namespace {

class Checker {
 public:
  Checker(const Experiment& experiment, const ConfigNode& root) : e_(experiment), root_(root) {}

  void check() const {
    check_model();
    check_data();
    check_batch();
    check_groups();
    check_schedule(e_.schedule, "schedule");
    check_precision();
    check_reduction();
    check_intervals();
  }

 private:
  // Fails with the place where `path` was written.
  template <class... Args>
  [[noreturn]] void refuse(const std::string& path, fmt::format_string<Args...> format,
                           Args&&... args) const {
    fail_usage("{}: {}: {}", origin_of(root_, path), path, fmt::format(format, std::forward<Args>(args)...));
  }

  void check_model() const {
    const ModelConfig& m = e_.model;
    if (m.num_attention_heads % m.num_key_value_heads != 0)
      refuse("model.num_key_value_heads", "found {}, expected a divisor of num_attention_heads = {}",
             m.num_key_value_heads, m.num_attention_heads);
    if (m.head_dim > model_limits::kHeadDim)
      refuse("model.head_dim", "found {}, expected at most {}", m.head_dim, model_limits::kHeadDim);
    if (m.head_dim % 2 != 0)
      refuse("model.head_dim", "found {}, expected an even width (rotary embeddings turn pairs of features)",
             m.head_dim);
    if (m.max_position_embeddings < e_.data.sequence_length)
      refuse("model.max_position_embeddings", "found {}, expected at least data.sequence_length = {}",
             m.max_position_embeddings, e_.data.sequence_length);
  }

  void check_data() const {
    const auto no_empty_path = [&](const std::vector<DataSource>& sources, const std::string& path) {
      for (size_t i = 0; i < sources.size(); ++i)
        if (sources[i].path.empty())
          refuse(fmt::format("{}.{}.path", path, i),
                 "found an empty text, expected a pattern of token shards");
    };
    no_empty_path(e_.data.train, "data.train");
    no_empty_path(e_.data.validation, "data.validation");
    if (!e_.data.validation.empty()) return;
    if (e_.evaluation.every_steps > 0)
      refuse("evaluation.every_steps",
             "found {}, but data.validation is empty: give it sources, or set 0 here",
             e_.evaluation.every_steps);
    if (e_.checkpoint.keep_best)
      refuse("checkpoint.keep_best", "found true, but data.validation is empty: there is no validation loss");
  }

  void check_batch() const {
    const int64_t tokens = e_.batch.global_tokens, length = e_.data.sequence_length;
    const int64_t micro = std::max<int64_t>(e_.batch.micro_sequences, 1) * length;
    if (tokens % micro == 0) return;
    const int64_t lower = tokens / micro * micro;
    refuse("batch.global_tokens",
           "found {}, expected a multiple of data.sequence_length * batch.micro_sequences = {} * {} = {}, "
           "such as {}",
           tokens, length, micro / length, micro, lower > 0 ? lower : micro);
  }

  void check_groups() const {
    const std::vector<GroupConfig>& groups = e_.optimizer.groups;
    for (size_t i = 0; i < groups.size(); ++i) {
      const std::string path = fmt::format("optimizer.groups.{}", i);
      for (size_t j = 0; j < groups[i].match.size(); ++j)
        if (groups[i].match[j].empty())
          refuse(fmt::format("{}.match.{}", path, j),
                 "found an empty pattern, expected one such as \"*_proj.weight\"");
      const auto& match = groups[i].match;
      if (i + 1 < groups.size() && std::find(match.begin(), match.end(), "*") != match.end())
        refuse(path + ".match",
               "the pattern \"*\" takes every parameter, so the groups after this one get none; put "
               "this group last");
      const OracleConfig& oracle = groups[i].oracle;
      if (static_cast<int64_t>(oracle.custom.size()) > oracle.steps)
        refuse(path + ".oracle.coefficients",
               "found {} polynomials for steps = {}, expected at most one a step", oracle.custom.size(),
               oracle.steps);
      if (groups[i].schedule) check_schedule(*groups[i].schedule, path + ".schedule");
    }
  }

  void check_schedule(const ScheduleConfig& schedule, const std::string& path) const {
    const int64_t steps = e_.train.max_steps;
    if (schedule.warmup_steps >= steps)
      refuse(path + ".warmup_steps", "found {}, expected less than train.max_steps = {}",
             schedule.warmup_steps, steps);
    if (schedule.kind != ScheduleKind::wsd && schedule.kind != ScheduleKind::wsd_linear) return;
    const auto decay =
        static_cast<int64_t>(std::llround(schedule.decay_fraction * static_cast<double>(steps)));
    if (schedule.warmup_steps + decay > steps)
      refuse(path + ".decay_fraction",
             "found {}, which is {} of {} steps; after {} warm-up steps there are only {} left",
             schedule.decay_fraction, decay, steps, schedule.warmup_steps, steps - schedule.warmup_steps);
  }

  void check_precision() const {
    if (e_.run.device != "cpu") return;
    if (e_.precision.compute != "fp32")
      refuse("precision.compute", "found {}, but run.device is cpu, which computes in fp32",
             e_.precision.compute);
    if (e_.precision.gradients != "fp32")
      refuse("precision.gradients", "found {}, but run.device is cpu, which accumulates in fp32",
             e_.precision.gradients);
  }

  void check_reduction() const {
    if (e_.distributed.reduction != "invariant") return;
    if (e_.batch.micro_sequences == 0)
      refuse("distributed.reduction",
             "found invariant, but batch.micro_sequences is not set: what is summed are micro-batches, which "
             "have to be the same on any number of ranks");
    if (e_.distributed.gradient_dtype != "fp32")
      refuse("distributed.gradient_dtype",
             "found {}, but distributed.reduction is invariant: rounded gradients depend on how many ranks "
             "round them; expected fp32",
             e_.distributed.gradient_dtype);
    if (!e_.run.gemm_cache.empty())
      refuse("run.gemm_cache",
             "found {}, but distributed.reduction is invariant: ranks that measure may choose differently; "
             "expected none",
             e_.run.gemm_cache);
    if (e_.attention.engine == "auto")
      refuse("attention.engine",
             "found auto, but distributed.reduction is invariant: ranks that measure may choose "
             "differently; expected native or cudnn");
  }

  void check_intervals() const {
    if (e_.guard.minimum > e_.guard.window)
      refuse("guard.minimum", "found {}, expected at most guard.window = {}", e_.guard.minimum,
             e_.guard.window);
  }

  const Experiment& e_;
  const ConfigNode& root_;
};

void fill_head_dim(ModelConfig& model, const ConfigNode& root) {
  if (model.head_dim > 0) return;
  if (model.hidden_size % model.num_attention_heads != 0)
    fail_usage(
        "{}: model.num_attention_heads: found {}, expected a divisor of hidden_size = {} (or give head_dim)",
        origin_of(root, "model.num_attention_heads"), model.num_attention_heads, model.hidden_size);
  model.head_dim = model.hidden_size / model.num_attention_heads;
}

}  // namespace

void resolve_and_check(Experiment& experiment, const ConfigNode& root) {
  fill_head_dim(experiment.model, root);
  if (experiment.model.max_position_embeddings == 0)
    experiment.model.max_position_embeddings = experiment.data.sequence_length;
  if (experiment.run.name.empty())
    fail_usage("{}: run.name: found an empty text, expected a name", origin_of(root, "run.name"));
  if (experiment.run.dir.empty()) experiment.run.dir = "runs/" + experiment.run.name;
  Checker(experiment, root).check();
}

}  // namespace polar

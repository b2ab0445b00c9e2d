// State goes by the names of parameters: what any number of ranks has saved, any other finds again, bit for
// bit.
#include <map>
#include <memory>

#include "checkpoint/safetensors.h"
#include "fixture.h"
#include "ops/memory.h"
#include "process.h"
#include "train/checkpointing.h"

namespace polar::test {
namespace {

using Values = std::vector<float>;

class Resharding : public TinyRun {
 protected:
  // Four steps of a run on `ranks`, saved.
  void save(int ranks) {
    Process launcher({POLAR_BINARY, "launch", "--nproc-per-node", std::to_string(ranks), "train",
                      path("config.yaml").string(), "run.dir=" + path("run").string(), "run.device=cpu",
                      "batch.global_tokens=1920", "batch.micro_sequences=1", "train.max_steps=4",
                      "evaluation.every_steps=0"});
    ASSERT_EQ(launcher.wait(), 0) << launcher.output();
  }
  std::filesystem::path saved() const { return checkpoint_dir(path("run"), 4); }

  // Every tensor of the optimizer as the checkpoint has it, put together of its ranges.
  std::map<std::string, Values> stored(const ParameterRegistry& registry) const {
    std::map<std::string, Values> all;
    const TensorSource source(saved(), "optimizer");
    for (const std::string& name : source.names()) {
      const size_t range = name.find('[');
      const std::string whole = name.substr(0, range);
      const size_t colon = whole.find(':');
      if (colon == std::string::npos) continue;  // the guard's
      const int parameter = registry.find(whole.substr(colon + 1));
      EXPECT_GE(parameter, 0) << name;
      Values& values = all[whole];
      values.resize(static_cast<size_t>(registry[parameter].count()), kNothing);
      const long begin = range == std::string::npos ? 0 : std::stol(name.substr(range + 1));
      source.read(name, {values.data() + begin, DType::f32, source.info(name).shape});
    }
    return all;
  }

  // The same as `ranks` ranks find it, each with its own plan.
  std::map<std::string, Values> restored(int ranks) const {
    const Experiment e = experiment("run", {"batch.global_tokens=1920", "batch.micro_sequences=1"});
    const auto ops = make_ops({"cpu", 1});
    std::map<std::string, Values> all;
    for (int rank = 0; rank < ranks; ++rank) {
      RunPlan plan(e, *ops, {.rank = rank, .world_size = ranks});
      const PlannedMemory device(plan.device, *ops, MemoryKind::device);
      plan.model.bind(*ops, device.arena());
      plan.optimizer.bind(*ops, device.arena());
      EXPECT_EQ(restore(*ops, plan, device, saved()).step, 4);
      for (const StateTensor& state : plan.optimizer.state()) {
        const size_t colon = state.name.find(':');
        const ParameterRegistry& registry = plan.model.registry();
        Values& values = all[state.name];
        values.resize(static_cast<size_t>(registry[registry.find(state.name.substr(colon + 1))].count()),
                      kNothing);
        const float* from = state.tensor.as<float>();
        std::copy(from, from + state.tensor.count(), values.begin() + state.begin);
      }
    }
    return all;
  }

  static constexpr float kNothing = 1e30f;
};

TEST_F(Resharding, EveryElementOfTheStateIsFoundAgain) {
  const ParameterRegistry registry = make_registry(experiment("a").model);
  for (const int saving : {1, 2, 4}) {
    std::filesystem::remove_all(path("run"));
    save(saving);
    const std::map<std::string, Values> want = stored(registry);
    ASSERT_EQ(want.size(), 14u + 2 * 10u);  // momentum of 7 matrices a layer; m and v of the others
    for (const auto& [name, values] : want)
      for (const float value : values) ASSERT_NE(value, kNothing) << name;
    for (const int ranks : {1, 2, 3, 4, 5}) EXPECT_TRUE(restored(ranks) == want) << saving << " to " << ranks;
  }
}

}  // namespace
}  // namespace polar::test

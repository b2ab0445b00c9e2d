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
  void save(int ranks, const std::string& type, const std::string& rest) {
    Process launcher({POLAR_BINARY, "launch", "--nproc-per-node", std::to_string(ranks), "train",
                      path("config.yaml").string(), "run.dir=" + path("run").string(), "run.device=cpu",
                      "batch.global_tokens=1920", "batch.micro_sequences=1", "train.max_steps=4",
                      "evaluation.every_steps=0", "optimizer.groups.0.type=" + type,
                      "optimizer.groups.1.type=" + rest});
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
      const long begin = range == std::string::npos ? 0 : std::stol(name.substr(range + 1));
      Values& values = all[whole];
      grow(values, begin + source.info(name).shape.count());
      source.read(name, {values.data() + begin, DType::f32, source.info(name).shape});
    }
    return all;
  }

  // The same as `ranks` ranks find it, each with its own plan.
  std::map<std::string, Values> restored(int ranks, const std::string& type, const std::string& rest) const {
    const Experiment e =
        experiment("run", {"batch.global_tokens=1920", "batch.micro_sequences=1",
                           "optimizer.groups.0.type=" + type, "optimizer.groups.1.type=" + rest});
    const auto ops = make_ops({"cpu", 1});
    std::map<std::string, Values> all;
    for (int rank = 0; rank < ranks; ++rank) {
      RunPlan plan(e, *ops, {.rank = rank, .world_size = ranks});
      const PlannedMemory device(plan.device, *ops, MemoryKind::device);
      plan.model.bind(*ops, device.arena());
      plan.optimizer.bind(*ops, device.arena());
      EXPECT_EQ(restore(*ops, plan, device, saved()).step, 4);
      for (const StateTensor& state : plan.optimizer.state()) {
        Values& values = all[state.name];
        grow(values, state.begin + state.tensor.count());
        const float* from = state.tensor.as<float>();
        std::copy(from, from + state.tensor.count(), values.begin() + state.begin);
      }
    }
    return all;
  }

  static constexpr float kNothing = 1e30f;
  static void grow(Values& values, int64_t count) {
    if (std::ssize(values) < count) values.resize(static_cast<size_t>(count), kNothing);
  }
};

TEST_F(Resharding, EveryElementOfTheStateIsFoundAgain) {
  const ParameterRegistry registry = make_registry(experiment("a").model);
  struct Kind {
    const char* type;
    size_t tensors;  // of a matrix
    const char* rest = "adamw";
    size_t others = 2;  // tensors of the rest: m and v
  };
  for (const auto& [type, tensors, rest, others] :
       {Kind{"muon", 1}, {"soap", 6}, {"shampoo", 5}, {"lion", 1, "lion", 1}})
    for (const int saving : {1, 2, 4}) {
      if (saving == 4 && type != std::string("muon")) continue;
      std::filesystem::remove_all(path("run"));
      save(saving, type, rest);
      const std::map<std::string, Values> want = stored(registry);
      // 7 matrices a layer.
      ASSERT_EQ(want.size(), 14u * tensors + 10u * others) << type;
      for (const auto& [name, values] : want)
        for (const float value : values) ASSERT_NE(value, kNothing) << name;
      for (const int ranks : {1, 2, 3, 5})
        EXPECT_TRUE(restored(ranks, type, rest) == want) << type << ": " << saving << " to " << ranks;
    }
}

}  // namespace
}  // namespace polar::test

// distributed.reduction: invariant: any number of ranks comes to the same bits.
#include "plan/run_plan.h"
#include "train/rank_runs.h"

namespace polar::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// One parameter of each family with a rule of its own: every kind of state, oracle and factorization.
const char* const kEveryRule = R"(optimizer.groups=[
  {match: ["*.q_proj.weight"], type: muon, lr: 5.0e-3, per_head: true, neuron_beta: 0.95},
  {match: ["*.k_proj.weight"], type: polargrad, lr: 1.0e-3, oracle: {kind: qdwh}},
  {match: ["*.v_proj.weight"], type: soap, lr: 3.0e-3, precondition_frequency: 3},
  {match: ["*.o_proj.weight"], type: shampoo, lr: 1.0e-3, precondition_frequency: 3},
  {match: ["*.gate_proj.weight"], type: polargrad, lr: 1.0e-3, oracle: {kind: zolo_pd}, momentum: {kind: polar_first}},
  {match: ["*.up_proj.weight"], type: muon, lr: 5.0e-3, oracle: {kind: polar_express}, cautious_decay: true, weight_decay: 0.1},
  {match: ["*.layers.0.mlp.down_proj.weight"], type: lion, lr: 1.0e-4},
  {match: ["*.down_proj.weight"], type: signsgd, lr: 1.0e-4},
  {match: ["model.embed_tokens.weight"], type: polargrad, lr: 1.0e-3, oracle: {kind: gram_eigh}},
  {match: ["*"], type: adamw, lr: 3.0e-3}])";

class Invariant : public Ranks, public testing::WithParamInterface<RanksCase> {
 protected:
  // `micro` of 24 sequences a micro-batch.
  static Overrides overrides(int micro) {
    Overrides all = GetParam().overrides;
    for (const char* more :
         {"train.max_steps=8", "data.packing=documents", "batch.global_tokens=768",
          "evaluation.every_steps=0", "checkpoint.every_steps=4", "distributed.reduction=invariant"})
      all.emplace_back(more);
    all.push_back("batch.micro_sequences=" + std::to_string(micro));
    return all;
  }
  void expect_same(const std::string& run, const std::string& other) const {
    EXPECT_TRUE(weights(run, 8) == weights(other, 8)) << run << " and " << other;
    for (const char* column : {"loss", "grad_norm"})
      EXPECT_EQ(column_of(run, column), column_of(other, column))
          << column << " of " << run << " and " << other;
  }
};

TEST_P(Invariant, AnyNumberOfRanksComesToTheSameBits) {
  Overrides eight = overrides(3);  // micro-batches
  train(1, "one", eight);
  train(2, "two", eight);
  train(8, "eight", eight);
  for (const char* run : {"two", "eight"}) expect_same(run, "one");
  // What one has saved, others go on with.
  std::filesystem::copy(path("one"), path("on"), std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(checkpoint_dir(path("on"), 8));
  Group two(2, command("on", eight));
  two.expect_success();
  EXPECT_THAT(two[0].output(), HasSubstr("continuing from"));
  expect_same("on", "one");

  eight.emplace_back("distributed.sharding=gradients");
  train(4, "four, gradients", eight);
  expect_same("four, gradients", "one");
  eight.emplace_back("distributed.reduction=fast");
  train(2, "fast", eight);
  EXPECT_FALSE(weights("fast", 8) == weights("one", 8));
}

TEST_P(Invariant, SoDoRanksThatAreNoPowerOfTwo) {
  Overrides twelve = overrides(2);  // micro-batches
  train(1, "one", twelve);
  train(3, "three", twelve);
  train(6, "six", twelve);
  twelve.emplace_back("distributed.sharding=gradients");
  train(2, "two, gradients", twelve);
  for (const char* run : {"three", "six", "two, gradients"}) expect_same(run, "one");
}

INSTANTIATE_TEST_SUITE_P(Ranks, Invariant,
                         testing::Values(RanksCase{"EveryRule", {kEveryRule}},
                                         RanksCase{"Qwen2",
                                                   {"model.architecture=qwen2", "model.head_dim=4",
                                                    "optimizer.clip_norm=0.1"}}),
                         [](const auto& test) { return std::string(test.param.name); });

class InvariantSum : public Ranks {};

// A joined matrix may begin anywhere, so the blocks of the norm have to begin with each. What they come to
// otherwise differs in the last bit, and not in every step.
TEST_F(InvariantSum, KnowsJoinedMatrices) {
  const Overrides overrides{
      "model.hidden_size=18",     "model.head_dim=4",         "model.intermediate_size=50",
      "batch.global_tokens=64",   "batch.micro_sequences=1",  "train.max_steps=200",
      "evaluation.every_steps=0", "checkpoint.every_steps=0", "distributed.reduction=invariant"};
  train(1, "one", overrides);
  train(2, "two", overrides);
  EXPECT_EQ(column_of("two", "grad_norm"), column_of("one", "grad_norm"));
  EXPECT_TRUE(weights("two", 200) == weights("one", 200));
}

// A rank's micro-batches have to be a whole subtree of the sum.
TEST_F(InvariantSum, ThatCannotBeIsNamed) {
  const auto error_with = [this](int ranks, const Overrides& overrides) {
    Overrides all{"distributed.reduction=invariant", "batch.global_tokens=384"};  // 12 sequences
    all.insert(all.end(), overrides.begin(), overrides.end());
    const auto ops = make_ops({"cpu", 1});
    try {
      const RunPlan plan(experiment("a", all), *ops, {.rank = 0, .world_size = ranks});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_usage);
      return std::string(error.what());
    }
    return std::string();
  };
  const char* const gradients = "distributed.sharding=gradients";
  EXPECT_THAT(error_with(2, {"batch.micro_sequences=2"}),
              AllOf(HasSubstr("3 micro-batches on each rank"), HasSubstr("a power of two")));
  EXPECT_EQ(error_with(1, {"batch.micro_sequences=4"}), "");
  EXPECT_THAT(error_with(3, {"batch.micro_sequences=2", gradients}),
              HasSubstr("gradients on 3 ranks, expected a power of two"));
  EXPECT_EQ(error_with(3, {"batch.micro_sequences=2"}), "");
  EXPECT_EQ(error_with(2, {"batch.micro_sequences=2", gradients}), "");
}

}  // namespace
}  // namespace polar::test

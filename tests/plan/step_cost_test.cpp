// What parts of a step cost, against counts made elsewhere and by hand.
#include "plan/step_cost.h"

#include <gtest/gtest.h>

#include "config/reader.h"
#include "errors.h"
#include "model/registry.h"
#include "optim/optimizer.h"
#include "optim/oracle.h"

namespace polar::test {
namespace {

constexpr double kFree = 1e300;

ModelConfig small_model() {
  ModelConfig model;
  model.vocab_size = 512;
  model.hidden_size = 64;
  model.num_hidden_layers = 3;
  model.num_attention_heads = 4;
  model.num_key_value_heads = 2;
  model.head_dim = 32;  // wider than the model
  model.intermediate_size = 96;
  model.tie_word_embeddings = true;
  return model;
}

Cost whole(const ModelCost& cost, int64_t layers) {
  Cost sum = cost.embedding;
  sum += static_cast<double>(layers) * cost.layer;
  sum += cost.head;
  sum += static_cast<double>(layers) * cost.layer_backward;
  sum += cost.embedding_backward;
  return sum;
}

DeviceRates only(double DeviceRates::*rate, double value) {
  DeviceRates rates{.gemm = kFree,
                    .attention = kFree,
                    .polar_full = kFree,
                    .polar_reduced = kFree,
                    .memory = kFree,
                    .launch = 0.0};
  rates.*rate = value;
  return rates;
}

// At one FLOP a second the products take as many seconds as MFU's formula counts FLOPs.
TEST(StepCost, ProductsAreTheModelsFlops) {
  const ModelConfig model = small_model();
  const int64_t time = 40, sequences = 3;
  const ModelCost cost =
      model_cost(model, {.sequences = sequences, .time = time}, only(&DeviceRates::gemm, 1.0));
  const double attention = 6.0 * 3 * 4 * 32 * static_cast<double>(time);  // of a token, in flops_per_token
  const double expected = (flops_per_token(model, time) - attention) * static_cast<double>(time * sequences);
  EXPECT_NEAR(whole(cost, 3).gemm, expected, 1e-9 * expected);
}

// 4 D forward and 14 D backward for every pair of a query and a key that it sees, and every head.
TEST(StepCost, AttentionIsThatOfThePairsThatAreSeen) {
  ModelConfig model = small_model();
  const auto seconds = [&](int64_t time, int64_t window) {
    model.sliding_window = window;
    return whole(model_cost(model, {.sequences = 2, .time = time}, only(&DeviceRates::attention, 1.0)), 3)
        .attention;
  };
  const double each = (4.0 + 14.0) * 32 * 4 * 2 * 3;
  EXPECT_NEAR(seconds(5, 0), each * 15.0, 1e-6);  // 1 + 2 + 3 + 4 + 5
  EXPECT_NEAR(seconds(5, 2), each * 9.0, 1e-6);   // 1 + 2 + 2 + 2 + 2
  EXPECT_NEAR(seconds(5, 100), each * 15.0, 1e-6);
}

// What is computed again: gate and up; all of a layer but the down projection.
TEST(StepCost, RecomputationCostsItsProducts) {
  const ModelConfig model = small_model();
  const auto products = [&](Recompute level) {
    const ModelBatchSize batch{.sequences = 1, .time = 10, .recompute = level};
    return model_cost(model, batch, only(&DeviceRates::gemm, 1.0)).layer_backward.gemm;
  };
  const double gate_up = 2.0 * 10 * 64 * 2 * 96, qkv = 2.0 * 10 * 64 * (128 + 2 * 64),
               o = 2.0 * 10 * 128 * 64;
  EXPECT_DOUBLE_EQ(products(Recompute::mlp) - products(Recompute::none), gate_up);
  EXPECT_DOUBLE_EQ(products(Recompute::layer) - products(Recompute::none), gate_up + qkv + o);
}

// Few rows: a product takes as long as its weights take to be read. At many rows it takes its FLOPs.
TEST(StepCost, ProductsTakeTheLongerOfFlopsAndBytes) {
  ModelConfig model = small_model();
  model.vocab_size = 1;
  DeviceRates rates = only(&DeviceRates::memory, 1.0);
  const double one_row = model_cost(model, {.sequences = 1, .time = 1, .element = 2}, rates).layer.gemm;
  const double weights = 64.0 * 256 + 128 * 64 + 3 * 64 * 96,
               activations = 64 + 256 + 128 + 64 + 64 + 192 + 96 + 64;
  EXPECT_DOUBLE_EQ(one_row, 2.0 * (weights + activations));
  rates.gemm = 0.5;
  EXPECT_DOUBLE_EQ(model_cost(model, {.sequences = 1, .time = 1, .element = 2}, rates).layer.gemm,
                   2.0 * weights / 0.5);
}

Hardware two_level() {
  return {.name = "test",
          .collective_us = 5.0,
          .device = {},
          .node = {.devices = 4, .link = {.gb_per_s = 200.0, .share = 0.5, .latency_us = 2.0}},
          .network = NetworkHardware{2, {.gb_per_s = 10.0, .share = 0.8, .latency_us = 30.0}}};
}

TEST(StepCost, CollectiveOperationsGoAroundARing) {
  Hardware h = two_level();
  EXPECT_EQ(collective_seconds(h, 1, 1e9), 0.0);
  EXPECT_EQ(scalar_seconds(h, 1), 0.0);
  // Inside a node: 3 parts of 1e9 bytes at 100 GB/s, 3 messages of 2 us.
  EXPECT_DOUBLE_EQ(collective_seconds(h, 4, 1e9), 0.03 + 5e-6 + 6e-6);
  EXPECT_DOUBLE_EQ(scalar_seconds(h, 4), 5e-6 + 12e-6);
  // Two nodes: 7 parts through two cards of 8 GB/s each; of 7 messages one crosses the network.
  EXPECT_DOUBLE_EQ(collective_seconds(h, 8, 1e9), 7.0 / 16.0 + 5e-6 + 6 * 2e-6 + 30e-6);
  // Cards that are faster than the devices' links.
  h.network->cards = 100;
  EXPECT_DOUBLE_EQ(collective_seconds(h, 8, 1e9), 0.07 + 5e-6 + 6 * 2e-6 + 30e-6);
  // Nodes of one device have no other link.
  h.node.devices = 1;
  EXPECT_DOUBLE_EQ(collective_seconds(h, 2, 1e9), 1.0 / 800.0 + 5e-6 + 30e-6);
  EXPECT_EQ(nodes_of(two_level(), 9), 3);
}

TEST(StepCost, SeveralNodesNeedANetwork) {
  Hardware h = two_level();
  h.network.reset();
  EXPECT_GT(collective_seconds(h, 4, 1.0), 0.0);
  const Error error = error_of([&] { collective_seconds(h, 5, 1.0); });
  EXPECT_EQ(error.code(), ExitCode::bad_usage);
  EXPECT_NE(std::string(error.what()).find("'network'"), std::string::npos) << error.what();
}

TEST(StepCost, DevicesThatShareTheirNodeSlowDown) {
  Hardware h = two_level();
  h.device = {.backend = "cpu",
              .tflops_bf16 = 4.0,
              .tflops_fp32 = 2.0,
              .gemm_share = 0.5,
              .memory_gb_per_s = 10.0,
              .memory_share = 0.8};
  h.node.busy_share = 0.4;
  EXPECT_DOUBLE_EQ(rates_of(h, 1, false).gemm, 1e12);
  EXPECT_DOUBLE_EQ(rates_of(h, 4, false).gemm, 0.4e12);
  EXPECT_DOUBLE_EQ(rates_of(h, 2, true).gemm, 0.8 * 2e12);
  EXPECT_DOUBLE_EQ(rates_of(h, 4, false).memory, 0.4 * 8e9);
}

GroupConfig group(const std::string& type) {
  GroupConfig group = group_defaults(type);
  group.match = {"*"};
  return group;
}

// Six equal matrices: on four ranks two own two of them, which takes as long as the plan's loads say.
TEST(StepCost, TheSlowestRankOwnsTheMost) {
  ParameterRegistry registry;
  for (int layer = 0; layer < 6; ++layer)
    registry.add(fmt::format("model.layers.{}.mlp.up_proj.weight", layer), Role::matrix, {96, 64});
  OptimizerConfig optimizer;
  optimizer.groups.push_back(group("muon"));
  optimizer.groups[0].oracle.products = "full";
  const double flops = Oracle(optimizer.groups[0].oracle).flops(96, 64);
  const ShardPlan shards(registry, owner_costs(optimizer, registry),
                         {.world_size = 4, .layers_per_bucket = 6});
  const DeviceRates rates = only(&DeviceRates::polar_full, 1.0);
  const std::vector<UpdateCost> costs = update_costs(optimizer, registry, &shards, 0, rates);
  ASSERT_EQ(costs.size(), 4u);
  double most = 0.0, load = 0.0;
  for (size_t rank = 0; rank < costs.size(); ++rank) {
    EXPECT_NEAR(costs[rank].polar / flops, shards.loads()[rank] / (64.0 * 64 * (2 * 96 + 64)), 1e-9);
    most = std::max(most, costs[rank].polar);
    load = std::max(load, shards.loads()[rank]);
  }
  EXPECT_DOUBLE_EQ(most, 2.0 * flops);
  EXPECT_DOUBLE_EQ(update_costs(optimizer, registry, nullptr, 0, rates).at(0).polar, 6.0 * flops);
  // Reduced products are another rate.
  optimizer.groups[0].oracle.products = "reduced";
  EXPECT_DOUBLE_EQ(
      update_costs(optimizer, registry, nullptr, 0, only(&DeviceRates::polar_reduced, 2.0)).at(0).polar,
      3.0 * flops);
}

// AdamW of fp32 parameters with a bf16 copy: 28 + 2 bytes, and the gradient once more for the norm.
TEST(StepCost, ElementWiseParametersTakeTheirBytes) {
  ParameterRegistry registry;
  registry.add("model.embed_tokens.weight", Role::embedding, {100, 64});
  OptimizerConfig optimizer;
  optimizer.groups.push_back(group("adamw"));
  const DeviceRates rates = only(&DeviceRates::memory, 1.0);
  EXPECT_DOUBLE_EQ(update_costs(optimizer, registry, nullptr, 2, rates).at(0).element_wise, 6400.0 * 34.0);
  const ShardPlan shards(registry, {0.0}, {.world_size = 2});
  for (const UpdateCost& cost : update_costs(optimizer, registry, &shards, 2, rates))
    EXPECT_DOUBLE_EQ(cost.element_wise, 3200.0 * 34.0);
}

// Lion: 4 gradient, 8 momentum, 4 + 8 sign, 12 update. SGD: no sign. Without momentum and with the norm of
// the gradient: 16 for that, and no 8. Rules with equal shapes take them in one batch.
TEST(StepCost, SoDoRulesWithoutProducts) {
  ParameterRegistry registry;
  registry.add("a.weight", Role::matrix, {100, 64});
  registry.add("b.weight", Role::matrix, {100, 64});
  registry.add("c.bias", Role::bias, {64});
  for (const auto& [type, bytes, launches] :
       {std::tuple{"lion", 36.0, 3.0}, {"sgd", 28.0, 2.0}, {"signsgd", 44.0, 5.0}}) {
    OptimizerConfig optimizer;
    optimizer.groups.push_back(group(type));
    const auto cost = [&](double DeviceRates::*rate) {
      return update_costs(optimizer, registry, nullptr, 2, only(rate, 1.0)).at(0);
    };
    EXPECT_DOUBLE_EQ(cost(&DeviceRates::memory).element_wise, 12864.0 * (bytes + 2.0 + 4.0)) << type;
    EXPECT_DOUBLE_EQ(cost(&DeviceRates::launch).launches, 2.0 * launches) << type;
    EXPECT_DOUBLE_EQ(cost(&DeviceRates::polar_full).polar, 0.0) << type;
  }
}

TEST(StepCost, TypesOfUnknownCostAreRefused) {
  ParameterRegistry registry;
  registry.add("a.weight", Role::matrix, {8, 8});
  for (const std::string type : {"shampoo", "soap"}) {
    OptimizerConfig optimizer;
    optimizer.groups.push_back(group(type));
    const Error error =
        error_of([&] { update_costs(optimizer, registry, nullptr, 0, only(&DeviceRates::memory, 1.0)); });
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
    EXPECT_NE(std::string(error.what()).find(type), std::string::npos);
  }
}

TEST(StepCost, OraclesOfUnknownCostAreRefused) {
  ParameterRegistry registry;
  registry.add("a.weight", Role::matrix, {8, 8});
  OptimizerConfig optimizer;
  optimizer.groups.push_back(group("muon"));
  for (const auto& [kind, name] : {std::pair{OracleKind::svd, "svd"},
                                   {OracleKind::qdwh, "qdwh"},
                                   {OracleKind::zolo_pd, "zolo_pd"},
                                   {OracleKind::gram_eigh, "gram_eigh"}}) {
    optimizer.groups[0].oracle.kind = kind;
    const Error error =
        error_of([&] { update_costs(optimizer, registry, nullptr, 0, only(&DeviceRates::memory, 1.0)); });
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
    EXPECT_NE(std::string(error.what()).find(name), std::string::npos);
  }
}

}  // namespace
}  // namespace polar::test

// Whole training steps of tiny models on the CUDA backend against the CPU backend: loss, every gradient, and
// the losses of some steps with both kinds of optimizer.
#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <numeric>

#include "config/reader.h"
#include "cuda/orders.h"
#include "model/model.h"
#include "ops/memory.h"
#include "optim/optimizer.h"

namespace polar::cuda::test {
namespace {

constexpr int64_t kBatch = 2, kTime = 21;  // no multiple of any tile

ModelConfig qwen3() {
  ModelConfig config;
  config.architecture = Architecture::qwen3;
  config.vocab_size = 131;
  config.hidden_size = 64;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 3;
  config.num_key_value_heads = 1;
  config.head_dim = 32;
  config.intermediate_size = 96;
  config.tie_word_embeddings = false;
  config.initializer_range = 0.1;
  return config;
}

ModelConfig qwen2() {
  ModelConfig config = qwen3();
  config.architecture = Architecture::qwen2;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 2;
  config.tie_word_embeddings = true;
  config.z_loss = 1e-3;
  config.logit_softcap = 20.0;
  config.sliding_window = 9;
  return config;
}

OptimizerConfig optimizer_config() {
  OptimizerConfig config;
  GroupConfig matrices = group_defaults("polargrad"), rest = group_defaults("adamw");
  matrices.match = {"*_proj.weight"};
  matrices.lr = 0.02;
  rest.match = {"*"};
  rest.lr = 3e-3;
  config.groups = {matrices, rest};
  return config;
}

// A model, its optimizer and one batch on a backend.
class Training {
 public:
  Training(Ops& ops, const ModelConfig& config, DType dtype, Recompute recompute = Recompute::none,
           const std::string& products = "full")
      : ops_(ops),
        model_(config, {.micro_sequences = kBatch, .time = kTime, .dtype = dtype, .recompute = recompute}),
        optimizer_(with_products(products), {}, model_.registry(), 100, DType::f32) {
    model_.plan(plan_, ops);
    optimizer_.plan(plan_, ops);
    const Shape rows{kBatch, kTime};
    const BufferId ids = plan_.add("input", "ids", DType::i32, rows),
                   targets = plan_.add("input", "targets", DType::i32, rows),
                   starts = plan_.add("input", "starts", DType::i32, rows),
                   scalars = plan_.add("control", "scalars", DType::f64, {5 + kControlSize + 2 + 2 * 8});
    memory_ = std::make_unique<PlannedMemory>(plan_, ops, MemoryKind::device);
    model_.bind(ops, memory_->arena());
    optimizer_.bind(ops, memory_->arena());
    model_.initialize(7);
    fill_batch((*memory_)[ids], (*memory_)[targets], (*memory_)[starts]);
    const Tensor all = (*memory_)[scalars];
    ops.fill(all, 0.0);
    control_.loss_sum = all.slice(0, {1});
    control_.gradient_squares = all.slice(1, {1});
    control_.control = all.slice(2, {kControlSize});
    control_.guard_window = 8;
    control_.window = all.slice(2 + kControlSize, {2 + 2 * 8});
    control_.valid_tokens = all.slice(2 + kControlSize + 2 + 2 * 8, {1});
    control_.gradient_tokens = kBatch * kTime;
    rates_ = all.slice(2 + kControlSize + 2 + 2 * 8 + 1, {2});
    ops.upload(control_.valid_tokens, &valid_tokens_);
    ops.upload(rates_, optimizer_.learning_rates(0).data());
    control_.clip_norm = 1.0;
  }

  void forward_backward() {
    ops_.fill(model_.gradients(), 0.0);
    ops_.fill(control_.loss_sum, 0.0);
    model_.forward_backward(batch_, 1.0 / control_.gradient_tokens, control_.loss_sum);
  }
  void update() {
    ops_.sum_squares(model_.gradients(), control_.gradient_squares, false);
    ops_.step_control(control_);
    optimizer_.step({.parameters = model_.parameters(),
                     .gradients = model_.gradients(),
                     .weights = model_.rounded_weights(),
                     .control = control_.control,
                     .learning_rates = rates_},
                    0);
  }
  double loss() {
    double sum = 0.0;
    ops_.download(&sum, control_.loss_sum);
    return sum / valid_tokens_;
  }
  Values gradient(int index) { return read(model_.gradient(index)); }
  Values parameters() { return read(model_.parameters()); }
  const ParameterRegistry& registry() const { return model_.registry(); }
  size_t planned_bytes() const { return plan_.total_bytes(); }

 private:
  static OptimizerConfig with_products(const std::string& products) {
    OptimizerConfig config = optimizer_config();
    config.groups[0].oracle.products = products;
    return config;
  }
  Values read(const Tensor& x) {
    std::vector<float> values(static_cast<size_t>(x.count()));
    ops_.download(values.data(), x);
    return Values(values.begin(), values.end());
  }
  // The first sequence holds two documents; some targets are ignored.
  void fill_batch(const Tensor& ids, const Tensor& targets, const Tensor& starts) {
    std::vector<int32_t> id(kBatch * kTime), target(kBatch * kTime), start(kBatch * kTime, 0);
    for (int64_t i = 0; i < kBatch * kTime; ++i) {
      id[i] = static_cast<int32_t>(random_bits(3, 1, i) % 131);
      target[i] = i % 10 == 9 ? -1 : static_cast<int32_t>(random_bits(3, 2, i) % 131);
      if (i >= 8 && i < kTime) start[i] = 8;
      valid_tokens_ += target[i] >= 0;
    }
    ops_.upload(ids, id.data());
    ops_.upload(targets, target.data());
    ops_.upload(starts, start.data());
    batch_ = {.batch = kBatch, .time = kTime, .ids = ids, .targets = targets, .document_starts = starts};
  }

  Ops& ops_;
  Model model_;
  Optimizer optimizer_;
  MemoryPlan plan_;
  std::unique_ptr<PlannedMemory> memory_;
  ModelBatch batch_;
  StepControl control_;
  Tensor rates_;
  double valid_tokens_ = 0.0;
};

double cosine(const Values& a, const Values& b) {
  const double ab = std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  const double aa = std::inner_product(a.begin(), a.end(), a.begin(), 0.0);
  const double bb = std::inner_product(b.begin(), b.end(), b.begin(), 0.0);
  return ab / std::sqrt(aa * bb);
}

class WholeModel : public ::testing::TestWithParam<ModelConfig> {
 protected:
  cpu::CpuOps cpu_{2};
  CudaOps cuda_;
};

TEST_P(WholeModel, LossAndGradientsInFp32AreTheCpus) {
  for (const Recompute recompute : {Recompute::none, Recompute::layer}) {
    Training want(cpu_, GetParam(), DType::f32, recompute), got(cuda_, GetParam(), DType::f32, recompute);
    want.forward_backward();
    got.forward_backward();
    EXPECT_NEAR(got.loss() / want.loss(), 1.0, 1e-5);
    for (size_t i = 0; i < want.registry().parameters().size(); ++i)
      expect_close(got.gradient(static_cast<int>(i)), want.gradient(static_cast<int>(i)), 1e-5,
                   want.registry().parameters()[i].name);
  }
}

TEST_P(WholeModel, FiveStepsInFp32LoseAsMuchAsOnTheCpu) {
  Training want(cpu_, GetParam(), DType::f32), got(cuda_, GetParam(), DType::f32);
  for (int step = 0; step < 5; ++step) {
    for (Training* each : {&want, &got}) {
      each->forward_backward();
      each->update();
    }
    EXPECT_NEAR(got.loss() / want.loss(), 1.0, 1e-4) << "step " << step;
  }
}

TEST_P(WholeModel, GradientsInBf16PointWhereThoseInFp32Do) {
  Training want(cpu_, GetParam(), DType::f32), got(cuda_, GetParam(), DType::bf16);
  want.forward_backward();
  got.forward_backward();
  EXPECT_NEAR(got.loss() / want.loss(), 1.0, 1e-2);
  for (size_t i = 0; i < want.registry().parameters().size(); ++i)
    EXPECT_GE(cosine(got.gradient(static_cast<int>(i)), want.gradient(static_cast<int>(i))), 0.999)
        << want.registry().parameters()[i].name;
}

TEST_P(WholeModel, TrainsInBf16WithPolarFactorsInBf16) {
  Training want(cpu_, GetParam(), DType::f32), got(cuda_, GetParam(), DType::bf16, Recompute::mlp, "reduced");
  for (int step = 0; step < 4; ++step)
    for (Training* each : {&want, &got}) {
      each->forward_backward();
      each->update();
    }
  want.forward_backward();
  got.forward_backward();
  EXPECT_NEAR(got.loss() / want.loss(), 1.0, 2e-2);
}

// Nothing is allocated that the plan does not say.
TEST_P(WholeModel, TheDeviceGivesWhatThePlanSays) {
  const auto free_bytes = [] {
    size_t free = 0, total = 0;
    EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
    return free;
  };
  const size_t before = free_bytes();
  CudaOps ops;
  Training training(ops, GetParam(), DType::bf16, Recompute::none, "reduced");
  training.forward_backward();
  training.update();
  EXPECT_EQ(before - free_bytes(), training.planned_bytes() + ops.own_workspace());
}

TEST_P(WholeModel, AStepHasTheSameBitsInEveryOrderOfThreads) {
  for (const DType dtype : {DType::f32, DType::bf16})
    expect_same_bits_in_every_order("parameters", [&] {
      Training training(cuda_, GetParam(), dtype, Recompute::none, "reduced");
      training.forward_backward();
      training.update();
      return training.parameters();
    });
}

INSTANTIATE_TEST_SUITE_P(Tiny, WholeModel, ::testing::Values(qwen2(), qwen3()),
                         [](const auto& each) { return each.index == 0 ? "Qwen2" : "Qwen3"; });

}  // namespace
}  // namespace polar::cuda::test

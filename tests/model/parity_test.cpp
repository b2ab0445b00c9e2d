// The model against Hugging Face transformers: logits, loss, every gradient, ten AdamW steps. The references
// are computed in fp64 from the same fp32 weights (tools/reference/model.py), so all of the difference is our
// rounding.
#include <filesystem>
#include <map>

#include "checkpoint/safetensors.h"
#include "fixture.h"
#include "model/hf_config.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;

class Parity : public testing::TestWithParam<const char*> {
 protected:
  Parity()
      : directory_(fs::path(POLAR_GOLDEN_DIR) / "model" / GetParam()),
        reference_(directory_ / "reference.safetensors"),
        bound_(read_hf_config(directory_ / "config.json").model, use()) {
    const SafetensorsFile weights(directory_ / "model.safetensors");
    for (int i = 0; i < static_cast<int>(bound_.model.registry().parameters().size()); ++i)
      weights.read(bound_.model.registry()[i].name, bound_.model.parameter(i));
  }

  ModelUse use() const {
    ModelUse use;
    use.micro_sequences = reference_.info("ids").shape[0];
    use.time = reference_.info("ids").shape[1];
    return use;
  }
  template <class T>
  std::vector<T> reference(const std::string& name) const {
    std::vector<T> out(static_cast<size_t>(reference_.info(name).shape.count()));
    reference_.read(name, {out.data(), DTypeOf<T>::value, reference_.info(name).shape});
    return out;
  }
  ModelBatch batch() {
    const std::vector<int32_t> starts =
        reference_.find("document_starts") ? reference<int32_t>("document_starts") : std::vector<int32_t>{};
    return bound_.batch(use().micro_sequences, use().time, reference<int32_t>("ids"),
                        reference<int32_t>("targets"), starts);
  }
  double valid_tokens() const {
    const std::vector<int32_t> targets = reference<int32_t>("targets");
    return static_cast<double>(targets.size()) -
           static_cast<double>(std::count(targets.begin(), targets.end(), -1));
  }

  fs::path directory_;
  SafetensorsFile reference_;
  BoundModel bound_;
};

TEST_P(Parity, Logits) {
  const double error = relative_error(bound_.logits<float>(batch()), reference<float>("logits"));
  RecordProperty("relative_error", std::to_string(error));
  EXPECT_LT(error, 1e-5);
}

TEST_P(Parity, LossAndGradients) {
  bound_.model.forward_backward(batch(), 1.0 / valid_tokens(), bound_.loss());
  const double loss = bound_.loss_value() / valid_tokens(), expected = reference<double>("loss")[0];
  EXPECT_LT(std::abs(loss - expected) / expected, 1e-5);
  size_t compared = 0;
  for (int i = 0; i < static_cast<int>(bound_.model.registry().parameters().size()); ++i) {
    const std::string& name = bound_.model.registry()[i].name;
    EXPECT_LT(
        relative_error(bound_.values<float>(bound_.model.gradient(i)), reference<float>("grad." + name)),
        1e-4)
        << name;
    ++compared;
  }
  // Nothing of the reference is left over: a tied head's gradient is part of the embedding's.
  for (const std::string& name : reference_.names()) compared -= name.starts_with("grad.") ? 1 : 0;
  EXPECT_EQ(compared, 0u);
}

TEST_P(Parity, TenAdamWSteps) {
  const std::vector<double> expected = reference<double>("adamw_losses");
  ASSERT_EQ(expected.size(), 10u);
  std::vector<double> control(kControlSize, 0.0);
  control[kControlApply] = control[kControlGradientScale] = 1.0;
  const size_t count = static_cast<size_t>(bound_.model.registry().flat_count());
  std::vector<float> m(count, 0.0f), v(count, 0.0f);
  const Shape flat{static_cast<int64_t>(count)};
  double lr = 1e-3;
  for (size_t step = 0; step < expected.size(); ++step) {
    bound_.ops->fill(bound_.model.gradients(), 0.0);
    bound_.ops->fill(bound_.loss(), 0.0);
    bound_.model.forward_backward(batch(), 1.0 / valid_tokens(), bound_.loss());
    EXPECT_LT(std::abs(bound_.loss_value() / valid_tokens() - expected[step]) / expected[step], 1e-5)
        << "step " << step;
    control[kControlAppliedSteps] = static_cast<double>(step + 1);
    AdamW update;
    update.parameter = bound_.model.parameters();
    update.gradient = bound_.model.gradients();
    update.m = {m.data(), DType::f32, flat};
    update.v = {v.data(), DType::f32, flat};
    update.lr = {&lr, DType::f64, {1}};
    update.weight_decay = 0.1;
    update.control = {control.data(), DType::f64, {kControlSize}};
    bound_.ops->adamw(update);
  }
  EXPECT_LT(expected.back(), 0.95 * expected.front());  // ten steps do move the loss
}

INSTANTIATE_TEST_SUITE_P(Transformers, Parity,
                         testing::Values("qwen2", "qwen3", "qwen3_window", "qwen3_documents"),
                         [](const auto& instance) { return std::string(instance.param); });

}  // namespace
}  // namespace polar::test

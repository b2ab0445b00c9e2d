// The whole model against itself: numeric gradients in fp64, recomputation, micro-batches, decoding.
#include "fixture.h"

namespace polar::test {
namespace {

struct Case {
  const char* name;
  Architecture architecture;
  int64_t window;
  double z_loss, softcap;
  bool documents;
};

class Gradient : public testing::TestWithParam<Case> {};

constexpr int64_t kSequences = 2, kTime = 13;

std::vector<int32_t> document_starts() {
  std::vector<int32_t> starts(kSequences * kTime, 0);
  for (size_t t = 5; t < 13; ++t) starts[t] = 5;
  for (size_t t = 1; t < 13; ++t) starts[13 + t] = 1;
  return starts;
}

// The objective that forward_backward differentiates, from an independent pass over the logits.
double objective(BoundModel& bound, const ModelBatch& batch, const std::vector<int32_t>& targets) {
  const ModelConfig& c = bound.model.config();
  std::vector<double> logits = bound.logits<double>(batch);
  const auto vocabulary = static_cast<size_t>(c.vocab_size);
  double total = 0.0;
  for (size_t row = 0; row < targets.size(); ++row) {
    if (targets[row] < 0) continue;
    double sum = 0.0;
    for (size_t j = 0; j < vocabulary; ++j) {
      double& x = logits[row * vocabulary + j];
      if (c.logit_softcap > 0.0) x = c.logit_softcap * std::tanh(x / c.logit_softcap);
      sum += std::exp(x);
    }
    const double lse = std::log(sum);
    total += lse - logits[row * vocabulary + static_cast<size_t>(targets[row])] + c.z_loss * lse * lse;
  }
  return total;
}

TEST_P(Gradient, AgreesWithCentralDifferences) {
  const Case& c = GetParam();
  ModelConfig config = tiny_config(c.architecture);
  config.sliding_window = c.window;
  config.z_loss = c.z_loss;
  config.logit_softcap = c.softcap;
  ModelUse use;
  use.micro_sequences = kSequences;
  use.time = kTime;
  use.dtype = DType::f64;
  BoundModel bound(config, use);
  bound.model.initialize(3);
  const auto ids = random_ids(kSequences * kTime, config.vocab_size, 1);
  auto targets = random_ids(kSequences * kTime, config.vocab_size, 2);
  targets[3] = targets[20] = -1;
  const ModelBatch batch =
      bound.batch(kSequences, kTime, ids, targets, c.documents ? document_starts() : std::vector<int32_t>{});
  // Norm weights and biases away from their trivial values.
  auto* parameters = bound.model.parameters().as<double>();
  for (int i = 0; i < static_cast<int>(bound.model.registry().parameters().size()); ++i) {
    const Parameter& p = bound.model.registry()[i];
    if (p.role == Role::matrix || p.role == Role::embedding || p.role == Role::head) continue;
    for (int64_t k = 0; k < p.count(); ++k)
      parameters[p.offset + k] += 0.3 * random_normal(5, static_cast<uint64_t>(i), static_cast<uint64_t>(k));
  }
  constexpr double kScale = 0.25;
  bound.model.forward_backward(batch, kScale, bound.loss());

  constexpr double kStep = 1e-5;
  for (int i = 0; i < static_cast<int>(bound.model.registry().parameters().size()); ++i) {
    const Parameter& p = bound.model.registry()[i];
    const auto gradient = bound.values<double>(bound.model.gradient(i));
    double size = 1e-3;
    for (const double g : gradient) size = std::max(size, std::abs(g));
    for (uint64_t sample = 0; sample < 6; ++sample) {
      const auto k = static_cast<int64_t>(random_bits(9, static_cast<uint64_t>(i), sample) %
                                          static_cast<uint64_t>(p.count()));
      double& x = parameters[p.offset + k];
      const double before = x;
      x = before + kStep;
      const double up = objective(bound, batch, targets);
      x = before - kStep;
      const double down = objective(bound, batch, targets);
      x = before;
      // Truncation O(h^2) = 1e-10 times third derivatives, rounding 1e-14 * |f| / h = 1e-7 of the size.
      EXPECT_NEAR(gradient[static_cast<size_t>(k)], kScale * (up - down) / (2.0 * kStep),
                  2e-7 * std::max(size, 1.0))
          << p.name << " [" << k << "]";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Options, Gradient,
                         testing::Values(Case{"qwen2", Architecture::qwen2, 0, 0.0, 0.0, false},
                                         Case{"qwen3", Architecture::qwen3, 0, 0.0, 0.0, false},
                                         Case{"window", Architecture::qwen3, 4, 0.0, 0.0, false},
                                         Case{"z_loss_and_softcap", Architecture::qwen2, 0, 1e-2, 3.0, false},
                                         Case{"documents", Architecture::qwen3, 6, 1e-3, 0.0, true}),
                         [](const auto& instance) { return std::string(instance.param.name); });

std::vector<float> gradients_with(Recompute recompute, int threads, size_t* bytes) {
  const ModelConfig config = tiny_config(Architecture::qwen3);
  ModelUse use;
  use.micro_sequences = 3;
  use.time = 17;
  use.recompute = recompute;
  BoundModel bound(config, use, threads);
  bound.model.initialize(3);
  const ModelBatch batch =
      bound.batch(3, 17, random_ids(51, config.vocab_size, 1), random_ids(51, config.vocab_size, 2));
  bound.model.forward_backward(batch, 1.0 / 51, bound.loss());
  *bytes = bound.planned_bytes();
  return bound.values<float>(bound.model.gradients());
}

TEST(Recomputation, SameBitsInLessMemory) {
  size_t none = 0, mlp = 0, layer = 0;
  const auto expected = gradients_with(Recompute::none, 2, &none);
  EXPECT_EQ(gradients_with(Recompute::mlp, 2, &mlp), expected);
  EXPECT_EQ(gradients_with(Recompute::layer, 2, &layer), expected);
  EXPECT_LT(mlp, none);
  EXPECT_LT(layer, mlp);
}

TEST(Threads, SameBitsWithOneAndTwo) {
  size_t bytes = 0;
  EXPECT_EQ(gradients_with(Recompute::none, 1, &bytes), gradients_with(Recompute::none, 2, &bytes));
}

TEST(MicroBatch, PartsAddUpToTheWhole) {
  const ModelConfig config = tiny_config(Architecture::qwen2);
  const auto ids = random_ids(8 * 11, config.vocab_size, 1),
             targets = random_ids(8 * 11, config.vocab_size, 2);
  ModelUse use;
  use.micro_sequences = 8;
  use.time = 11;
  BoundModel bound(config, use);
  bound.model.initialize(3);
  std::vector<float> whole;
  for (const int64_t micro : {8, 4, 2, 1}) {
    bound.ops->fill(bound.model.gradients(), 0.0);
    for (int64_t first = 0; first < 8; first += micro) {
      const auto part = [&](const std::vector<int32_t>& all) {
        return std::vector<int32_t>(all.begin() + first * 11, all.begin() + (first + micro) * 11);
      };
      bound.model.forward_backward(bound.batch(micro, 11, part(ids), part(targets)), 1.0 / 88, bound.loss());
    }
    const auto gradients = bound.values<float>(bound.model.gradients());
    if (micro == 8) whole = gradients;
    EXPECT_LT(relative_error(gradients, whole), 1e-6) << "micro-batches of " << micro;
  }
}

TEST(Decoding, PiecesWithACacheEqualTheWholeText) {
  for (const Architecture architecture : {Architecture::qwen2, Architecture::qwen3}) {
    ModelConfig config = tiny_config(architecture);
    config.sliding_window = architecture == Architecture::qwen3 ? 6 : 0;
    constexpr int64_t kLength = 21;
    ModelUse use;
    use.time = kLength;
    BoundModel whole(config, use);
    whole.model.initialize(3);
    const auto ids = random_ids(kLength, config.vocab_size, 1);
    const auto expected = whole.logits<float>(whole.batch(1, kLength, ids, {}));

    use.training = false;
    use.time = 8;
    use.cache_time = kLength;
    BoundModel decoder(config, use);
    decoder.model.initialize(3);
    std::vector<float> logits;
    for (int64_t position = 0; position < kLength;) {
      const int64_t count = position < 14 ? 7 : 1;  // two pieces, then one by one
      ModelBatch batch =
          decoder.batch(1, count, {ids.begin() + position, ids.begin() + position + count}, {});
      batch.first_position = position;
      const auto piece = decoder.logits<float>(batch);
      logits.insert(logits.end(), piece.begin(), piece.end());
      position += count;
    }
    EXPECT_LT(relative_error(logits, expected), 1e-5);
  }
}

}  // namespace
}  // namespace polar::test

#include "lab/draw.h"

#include <cmath>
#include <numbers>
#include <optional>
#include <random>
#include <utility>

#include "base/error.h"
#include "base/random.h"

namespace polar::lab {
namespace {

class OwnDraw final : public Draw {
 public:
  explicit OwnDraw(uint64_t seed) : seed_(seed) {}

  HostMatrix normal(int64_t rows, int64_t cols, uint64_t stream) override {
    HostMatrix a(rows, cols);
    for (size_t i = 0; i < a.values.size(); ++i) a.values[i] = random_normal(seed_, stream, i);
    return a;
  }
  HostMatrix uniform(int64_t rows, int64_t cols, uint64_t stream) override {
    HostMatrix a(rows, cols);
    for (size_t i = 0; i < a.values.size(); ++i) a.values[i] = 2.0 * random_uniform(seed_, stream, i) - 1.0;
    return a;
  }
  std::vector<uint8_t> chosen(int64_t count, double share, uint64_t stream) override {
    std::vector<uint8_t> all(static_cast<size_t>(count));
    for (size_t i = 0; i < all.size(); ++i) all[i] = random_uniform(seed_, stream, i) < share;
    return all;
  }
  std::vector<int32_t> indices(int64_t count, int64_t limit, uint64_t stream, int64_t block) const override {
    std::vector<int32_t> all(static_cast<size_t>(count));
    for (size_t i = 0; i < all.size(); ++i) {
      const uint64_t index = static_cast<uint64_t>(block) * all.size() + i;
      all[i] = static_cast<int32_t>(random_uniform(seed_, stream, index) * static_cast<double>(limit));
    }
    return all;
  }

 private:
  uint64_t seed_;
};

// What PyTorch's CPU generator does, held against PyTorch by tests/lab/draw_test.cpp. Its engine is the
// 32-bit Mersenne twister, of which a number in fp32 takes the lower 24 bits of one output. Sixteen and more
// normal numbers are made in blocks of sixteen, by Box and Muller's transformation of the first eight with
// the second; where the last block is not whole, the last sixteen are drawn a second time. Fewer are made one
// by one in fp64, in pairs, of which the second waits for the next time that it is asked for.
class TorchDraw final : public Draw {
 public:
  explicit TorchDraw(uint64_t seed) : engine_(static_cast<uint32_t>(seed)) {}

  HostMatrix normal(int64_t rows, int64_t cols, uint64_t) override {
    HostMatrix a(rows, cols);
    const size_t count = a.values.size();
    if (count < kBlock) {
      for (double& value : a.values) value = static_cast<float>(one_normal());
      return a;
    }
    for (size_t i = 0; i + kBlock <= count; i += kBlock) fill_block(&a.values[i]);
    if (const size_t rest = count % kBlock; rest != 0) {
      engine_.discard(rest);  // PyTorch has drawn them with the others before
      fill_block(&a.values[count - kBlock]);
    }
    return a;
  }
  HostMatrix uniform(int64_t rows, int64_t cols, uint64_t) override {
    HostMatrix a(rows, cols);
    for (double& value : a.values) value = 2.0 * uniform_of(engine_()) - 1.0;  // exact in fp32
    return a;
  }
  std::vector<uint8_t> chosen(int64_t count, double share, uint64_t) override {
    std::vector<uint8_t> all(static_cast<size_t>(count));
    for (uint8_t& one : all) one = uniform_of(engine_()) < static_cast<float>(share);
    return all;
  }
  std::vector<int32_t> indices(int64_t count, int64_t limit, uint64_t, int64_t block) const override {
    std::mt19937 engine = engine_;
    engine.discard(static_cast<uint64_t>(block) * static_cast<uint64_t>(count));
    std::vector<int32_t> all(static_cast<size_t>(count));
    for (int32_t& one : all) one = static_cast<int32_t>(engine() % static_cast<uint64_t>(limit));
    return all;
  }

 private:
  static constexpr size_t kBlock = 16, kHalf = kBlock / 2;

  static float uniform_of(uint64_t bits) { return static_cast<float>(bits & 0xFFFFFF) * 0x1p-24f; }

  // Each operation is rounded to fp32 as PyTorch does; logarithm, cosine and sine are exact before that,
  // where PyTorch's are polynomials.
  void fill_block(double* values) {
    float uniform[kBlock];
    for (float& value : uniform) value = uniform_of(engine_());
    for (size_t i = 0; i < kHalf; ++i) {
      const float logarithm = static_cast<float>(std::log(static_cast<double>(1.0f - uniform[i])));
      const float radius = std::sqrt(-2.0f * logarithm);
      const float angle = 2.0f * std::numbers::pi_v<float> * uniform[i + kHalf];
      values[i] = radius * static_cast<float>(std::cos(static_cast<double>(angle)));
      values[i + kHalf] = radius * static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }

  double one_normal() {
    if (waiting_) return *std::exchange(waiting_, std::nullopt);
    const double turn = long_uniform(), u = long_uniform();
    const double radius = std::sqrt(-2.0 * std::log1p(-u)), angle = 2.0 * std::numbers::pi * turn;
    waiting_ = radius * std::sin(angle);
    return radius * std::cos(angle);
  }
  // Of 53 bits; the first output is the upper half.
  double long_uniform() {
    const uint64_t upper = engine_(), lower = engine_();
    return static_cast<double>(((upper << 32) | lower) & ((uint64_t{1} << 53) - 1)) * 0x1p-53;
  }

  std::mt19937 engine_;
  std::optional<double> waiting_;
};

}  // namespace

const char* name_of(Generator generator) {
  return generator == Generator::torch ? "torch" : "polartrain";
}

Generator generator_of(const std::string& name) {
  for (const Generator generator : {Generator::polartrain, Generator::torch})
    if (name == name_of(generator)) return generator;
  fail_usage("found the draw \"{}\", expected polartrain or torch", name);
}

std::unique_ptr<Draw> make_draw(Generator generator, uint64_t seed) {
  if (generator == Generator::torch) return std::make_unique<TorchDraw>(seed);
  return std::make_unique<OwnDraw>(seed);
}

}  // namespace polar::lab

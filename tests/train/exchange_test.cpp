// What travels sets out while the model is still being computed, and arrives where it is first read.
#include <gmock/gmock.h>

#include <algorithm>

#include "fixture.h"
#include "ops/ops.h"
#include "train/trainer.h"

namespace polar::test {
namespace {

using testing::ElementsAre;

// Rank 0 of two, the other of which never comes: notes what is sent, and whether layer 0 had gradients then.
class Notes final : public Communicator {
 public:
  struct Sent {
    std::string name;
    bool layer_0_done;
  };
  std::vector<Sent> sent;
  std::function<bool()> layer_0_done = [] { return false; };

  int rank() const override { return 0; }
  int world_size() const override { return 2; }
  void all_reduce_sum(std::span<double>) override {}
  void broadcast(std::span<std::byte>, int) override {}
  std::vector<std::string> all_gather_text(const std::string& own) override { return {own, own}; }
  void barrier() override {}
  std::unique_ptr<Mark> make_mark() override { return std::make_unique<Mark>(); }
  void all_reduce_sum(const Tensor&, std::string_view name, Mark&) override { note(name); }
  void reduce_scatter_sum(const Tensor& parts, const Tensor& own, std::string_view name, Mark&) override {
    note(name);
    if (own.data != parts.data) std::copy_n(parts.as<std::byte>(), own.bytes(), own.as<std::byte>());
  }
  void all_to_all(const Tensor& parts, const Tensor& arrived, std::string_view name, Mark&) override {
    note(name);
    std::copy_n(parts.as<std::byte>(), parts.bytes(), arrived.as<std::byte>());
  }
  void all_gather(const Tensor&, std::string_view name, Mark&) override { note(name); }
  void broadcast(const Tensor&, int, std::string_view name, Mark&) override { note(name); }
  uint64_t bytes_sent() const override { return 0; }

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const Sent& one : sent) all.push_back(one.name);
    return all;
  }

 private:
  void note(std::string_view name) { sent.push_back({std::string(name), layer_0_done()}); }
};

class Exchange : public TinyRun {
 protected:
  void start(std::vector<std::string> overrides) {
    for (const char* more : {"model.num_hidden_layers=3", "batch.micro_sequences=2"})
      overrides.push_back(more);
    experiment_ = experiment("a", overrides);
    trainer_.emplace(experiment_, *ops_, comm_);
    trainer_->initialize();
    trainer_->start();
    const Model& model = trainer_->plan().model;
    const int q = model.registry().find("model.layers.0.self_attn.q_proj.weight");
    comm_.layer_0_done = [gradient = model.gradient(q)] {
      const float* values = gradient.as<float>();
      return std::any_of(values, values + gradient.count(), [](float x) { return x != 0.0f; });
    };
  }
  void step() {
    comm_.sent.clear();
    ASSERT_TRUE(trainer_->step([] { return false; }));
  }

  Experiment experiment_;
  std::unique_ptr<Ops> ops_ = make_ops({"cpu", 1});
  Notes comm_;
  std::optional<Trainer> trainer_;
};

constexpr const char *kElements = "gradients of element-wise parameters", *kHead = "gradients of head",
                     *kFirst = "gradients of layer 0", *kSecond = "gradients of layer 1",
                     *kThird = "gradients of layer 2", *kLoss = "loss", *kNorm = "gradient norm";

TEST_F(Exchange, ABucketSetsOutAsSoonAsItIsComplete) {
  start({"batch.global_tokens=128"});  // one micro-batch a rank
  step();
  EXPECT_THAT(comm_.names(), ElementsAre(kThird, kSecond, kFirst, kElements, kLoss, kNorm,
                                         "weights of element-wise parameters", "weights of layer 0"));
  for (const Notes::Sent& sent : comm_.sent)
    EXPECT_EQ(sent.layer_0_done, sent.name != kThird && sent.name != kSecond) << sent.name;
}

TEST_F(Exchange, WeightsArriveWhileTheLayersBeforeAreComputed) {
  start({"batch.global_tokens=128"});
  step();
  step();
  EXPECT_THAT(comm_.names(),
              ElementsAre("weights of layer 1", "weights of layer 2", kThird, kSecond, kFirst, kElements,
                          kLoss, kNorm, "weights of element-wise parameters", "weights of layer 0"));
  comm_.sent.clear();
  trainer_->complete_weights();
  EXPECT_THAT(comm_.names(), ElementsAre("weights of layer 1", "weights of layer 2"));
  step();
  EXPECT_EQ(comm_.names().front(), kThird);
}

TEST_F(Exchange, GradientsTravelOnceAStep) {
  start({"batch.global_tokens=256"});  // two micro-batches a rank
  step();
  EXPECT_EQ(std::ranges::count(comm_.names(), kThird), 1);
  EXPECT_TRUE(comm_.sent.front().layer_0_done);  // of the first micro-batch
}

TEST_F(Exchange, ShardedGradientsTravelInEveryMicroBatch) {
  start({"batch.global_tokens=256", "distributed.sharding=gradients"});
  step();
  EXPECT_THAT(comm_.names(),
              ElementsAre(kThird, kSecond, kFirst, kElements, kThird, kSecond, kFirst, kElements, kLoss,
                          kNorm, "weights of element-wise parameters", "weights of layer 0"));
  const Model& model = trainer_->plan().model;
  EXPECT_LT(model.gradients().count(), model.registry().flat_count());
}

// An untied head is complete first and needed last.
TEST_F(Exchange, AnUntiedHeadTravelsByItself) {
  start({"batch.global_tokens=128", "model.tie_word_embeddings=false"});
  step();
  step();
  EXPECT_THAT(comm_.names(), ElementsAre("weights of layer 1", "weights of layer 2", "weights of head", kHead,
                                         kThird, kSecond, kFirst, kElements, kLoss, kNorm,
                                         "weights of element-wise parameters", "weights of layer 0"));
}

}  // namespace
}  // namespace polar::test

// What lets the host run ahead of the device: marks, uploads beside the queue, work repeated as a graph.
#include <numeric>

#include "cuda/orders.h"

namespace polar::cuda::test {
namespace {

constexpr int64_t kCount = 1000;

// Streams that do nothing before something waits for them show every order that nobody asked for.
class CudaQueue : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
#ifdef POLAR_EMULATED
    before_ = emulator::options();
    emulator::options().lazy_streams = GetParam();
#endif
  }
  void TearDown() override {
    for (void* memory : memory_) ops_.release(memory);
    for (void* memory : host_) ops_.release_host(memory);
#ifdef POLAR_EMULATED
    emulator::options() = before_;
#endif
  }
  Tensor tensor() {
    memory_.push_back(ops_.allocate(kCount * sizeof(float)));
    const Tensor made{memory_.back(), DType::f32, {kCount}};
    ops_.fill(made, 0.0);
    ops_.synchronize();  // an upload ahead waits for its mark only, not for this
    return made;
  }
  float* host(float value) {
    host_.push_back(ops_.allocate_host(kCount * sizeof(float)));
    auto* made = static_cast<float*>(host_.back());
    std::fill_n(made, kCount, value);
    return made;
  }
  double sum_of(const Tensor& x) {
    std::vector<float> values(kCount);
    ops_.download(values.data(), x);
    return std::accumulate(values.begin(), values.end(), 0.0);
  }

  CudaOps ops_;

 private:
#ifdef POLAR_EMULATED
  emulator::Options before_;
#endif
  std::vector<void*> memory_, host_;
};

// As the training loop does it: two places, filled beside the work that reads the other one.
TEST_P(CudaQueue, UploadsAheadComeInTurn) {
  const Tensor places[] = {tensor(), tensor()}, total = tensor();
  const std::unique_ptr<Mark> uploaded[] = {ops_.make_mark(), ops_.make_mark()};
  const std::unique_ptr<Mark> used[] = {ops_.make_mark(), ops_.make_mark()};
  std::vector<float*> batches;
  for (int i = 0; i < 6; ++i) batches.push_back(host(static_cast<float>(1 << i)));
  const auto upload = [&](size_t i) {
    ops_.upload_ahead(places[i % 2], batches[i], *used[i % 2], *uploaded[i % 2]);
  };
  upload(0);
  for (size_t i = 0; i < batches.size(); ++i) {
    ops_.follow(*uploaded[i % 2]);
    // total = 3 total + batch: every batch in its turn, or another sum.
    ops_.axpby(1.0, places[i % 2], 3.0, total);
    ops_.set(*used[i % 2]);
    if (i + 1 < batches.size()) upload(i + 1);
  }
  double want = 0.0;
  for (int i = 0; i < 6; ++i) want = 3.0 * want + (1 << i);
  EXPECT_EQ(sum_of(total), want * kCount);
}

TEST_P(CudaQueue, AnUploadWaitsForItsMark) {
  const Tensor place = tensor(), copy = tensor();
  const auto used = ops_.make_mark(), uploaded = ops_.make_mark();
  ops_.fill(place, 1.0);
  ops_.copy(place, copy);
  ops_.set(*used);
  ops_.upload_ahead(place, host(2.0F), *used, *uploaded);
  ops_.wait(*uploaded);
  EXPECT_TRUE(ops_.reached(*used));
  EXPECT_EQ(sum_of(copy), 1.0 * kCount);
  EXPECT_EQ(sum_of(place), 2.0 * kCount);
}

TEST_P(CudaQueue, ADownloadIsThereWhenItsMarkIsReached) {
  const Tensor x = tensor();
  float* to = host(0.0F);
  const auto done = ops_.make_mark();
  EXPECT_TRUE(ops_.reached(*done));  // never set
  ops_.fill(x, 5.0);
  ops_.download_queued(to, x);
  ops_.set(*done);
  ops_.fill(x, 6.0);
  ops_.wait(*done);
  EXPECT_TRUE(ops_.reached(*done));
  EXPECT_EQ(to[0], 5.0F);
  EXPECT_EQ(to[kCount - 1], 5.0F);
}

TEST_P(CudaQueue, RepeatedWorkIsCapturedOnceAndReadsWhatIsThere) {
  const Tensor x = tensor(), total = tensor();
  int calls = 0;
  const auto work = ops_.repeat([&] {
    ++calls;
    ops_.axpby(2.0, x, 1.0, total);
    ops_.copy(total, x);
  });
  ops_.fill(x, 1.0);
  double want_x = 1.0, want_total = 0.0;
  for (int i = 0; i < 5; ++i) {
    work->run();
    want_x = want_total += 2.0 * want_x;
  }
  EXPECT_EQ(sum_of(total), want_total * kCount);
  EXPECT_EQ(calls, 2);  // the first run, and the capture
  ops_.fill(x, 0.5);
  work->run();
  EXPECT_EQ(sum_of(x), (want_total + 1.0) * kCount);
}

TEST_P(CudaQueue, ACaptureThatFailsLeavesTheQueueUsable) {
  const Tensor x = tensor();
  int calls = 0;
  const auto work = ops_.repeat([&] {
    ops_.fill(x, 3.0);
    if (++calls == 2) ops_.synchronize();  // which no capture allows
  });
  work->run();
  EXPECT_THROW(work->run(), std::runtime_error);
  ops_.fill(x, 4.0);
  EXPECT_EQ(sum_of(x), 4.0 * kCount);
  work->run();
  EXPECT_EQ(sum_of(x), 3.0 * kCount);
}

TEST_P(CudaQueue, AMarkOfAnotherBackendIsRefused) {
  Mark foreign;
  EXPECT_THROW(ops_.set(foreign), std::runtime_error);
}

INSTANTIATE_TEST_SUITE_P(Streams, CudaQueue, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "Lazy" : "Eager"; });

}  // namespace
}  // namespace polar::cuda::test

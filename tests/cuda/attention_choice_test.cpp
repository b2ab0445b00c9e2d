// Which engine does which case of attention: with an engine of the test's own beside the native one, fast or
// slow, that does what it is told to.
#include "backend/cuda/attention_choice.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>

#include "backend/cuda/cuda_ops.h"
#include "base/error.h"
#include "ops/device.h"
#include "temporary.h"

namespace polar::cuda {
namespace {

using polar::testing::Device;
using polar::testing::Values;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr size_t kSlowBytes = size_t{64} << 20;

// What an engine of the test does; outlives the engine.
struct Told {
  std::string name = "fake 1";
  std::string refusal = "";  // of every case, with any workspace
  bool slow = false;         // some milliseconds on the emulator, a tenth of one on a GPU
  std::string failure = "";  // thrown instead of computing
  size_t workspace = 0;      // what a case needs
  int asked = 0, forward = 0, backward = 0;
};

class Fake final : public AttentionEngine {
 public:
  explicit Fake(Told& told) : told_(told), memory_(make_device_memory(kSlowBytes)) {}
  std::string name() const override { return told_.name; }
  std::string refusal(const AttentionCase&, size_t workspace_bytes) override {
    ++told_.asked;
    return workspace_bytes < told_.workspace ? "too little workspace" : told_.refusal;
  }
  void forward(const AttentionForward&, cudaStream_t stream) override { compute(told_.forward, stream); }
  void backward(const AttentionBackward&, cudaStream_t stream) override { compute(told_.backward, stream); }

 private:
  void compute(int& count, cudaStream_t stream) {
    ++count;
    if (!told_.failure.empty()) fail("{}", told_.failure);
    for (int i = 0; told_.slow && i < 4; ++i)
      CUDA_CHECK(cudaMemsetAsync(memory_.get(), i, kSlowBytes, stream));
  }
  Told& told_;
  DeviceMemory memory_;
};

constexpr int64_t kTime = 40, kHeads = 2, kWidth = 32;

// One attention on a device whose other engine is a Fake.
class Attention {
 public:
  Attention(EngineWanted wanted, Told& told, const std::string& file = "") : told_(told) {
    auto choice = std::make_unique<AttentionChoice>(wanted, std::make_unique<Fake>(told), file, "a GPU");
    choice_ = choice.get();
    ops_->set_attention(std::move(choice));
    const Shape rows{kTime, kHeads * kWidth};
    const Values values = polar::testing::random_values(rows.count(), 3);
    for (Tensor* x : {&q_, &k_, &v_, &doutput_}) *x = device_.make(DType::bf16, rows, values);
    for (Tensor* x : {&output_, &dq_, &dk_, &dv_}) *x = device_.zeros(DType::bf16, rows);
    lse_ = device_.zeros(DType::f32, {1, kHeads, kTime});
    workspace_ = device_.bytes(device_->attention_workspace(shape_, DType::bf16));
  }
  void forward() {
    device_->attention_forward({shape_, q_, k_, v_, {}, output_, lse_, workspace_});
    device_->synchronize();
  }
  void queue_forward() { device_->attention_forward({shape_, q_, k_, v_, {}, output_, lse_, workspace_}); }
  void backward() {
    device_->attention_backward({shape_, q_, k_, v_, {}, output_, doutput_, lse_, dq_, dk_, dv_, workspace_});
    device_->synchronize();
  }
  // Whether the native kernels have written the output since it was last zeroed.
  bool native_wrote() {
    for (const double value : device_.read(output_))
      if (value != 0.0) return true;
    return false;
  }
  void clear() { device_->fill(output_, 0.0); }
  int64_t measured() const { return choice_->measured(); }
  const Stream& stream() const { return ops_->stream(); }
  // The engine that the next forward pass takes, once chosen.
  std::string forward_engine() {
    clear();
    const int before = told_.forward;
    forward();
    EXPECT_NE(told_.forward > before, native_wrote());
    return native_wrote() ? "native" : "other";
  }

 private:
  Told& told_;
  CudaOps* ops_ = new CudaOps();
  Device device_{std::unique_ptr<Ops>(ops_)};
  AttentionChoice* choice_ = nullptr;
  AttentionShape shape_{1, kTime, kTime, kHeads, kHeads, kWidth, 0, 1.0 / std::sqrt(double(kWidth))};
  Tensor q_, k_, v_, doutput_, output_, dq_, dk_, dv_, lse_, workspace_;
};

TEST(CudaAttentionChoice, NativeNeedsNoOtherEngine) {
  const CudaOps ops;
  ASSERT_NE(ops.attention(), nullptr);
  EXPECT_EQ(ops.attention()->other(), nullptr);
  Told told;
  Attention a(EngineWanted::native, told);
  EXPECT_EQ(a.forward_engine(), "native");
  EXPECT_EQ(told.asked, 0);
}

TEST(CudaAttentionChoice, TheDemandedEngineDoesWhatItCanUnmeasured) {
  Told told{.slow = true};
  Attention a(EngineWanted::cudnn, told);
  EXPECT_EQ(a.forward_engine(), "other");
  a.backward();
  EXPECT_EQ(told.forward, 1);
  EXPECT_EQ(told.backward, 1);
  EXPECT_EQ(a.measured(), 0);
}

TEST(CudaAttentionChoice, WhatTheOtherEngineRefusesIsNative) {
  for (const EngineWanted wanted : {EngineWanted::cudnn, EngineWanted::automatic}) {
    Told told{.refusal = "no such heads"};
    Attention a(wanted, told);
    EXPECT_EQ(a.forward_engine(), "native");
    EXPECT_EQ(a.forward_engine(), "native");
    EXPECT_EQ(told.asked, 1) << "asked again";
    EXPECT_EQ(told.forward, 0);
    EXPECT_EQ(a.measured(), 0);
  }
}

TEST(CudaAttentionChoice, NeedingMoreWorkspaceThanPlannedIsNative) {
  Told told{.workspace = size_t{1} << 40};
  Attention a(EngineWanted::cudnn, told);
  EXPECT_EQ(a.forward_engine(), "native");
}

TEST(CudaAttentionChoice, AutoMeasuresACaseOnceAndTakesTheFasterEngine) {
  for (const bool slow : {false, true}) {
    Told told{.slow = slow};
    Attention a(EngineWanted::automatic, told);
    a.forward();
    EXPECT_EQ(a.measured(), 1);
    EXPECT_EQ(a.forward_engine(), slow ? "native" : "other");
    EXPECT_EQ(a.measured(), 1) << "measured again";
    a.backward();
    EXPECT_EQ(a.measured(), 2) << "the backward pass is a case of its own";
    const int before = told.backward;
    a.backward();
    EXPECT_EQ(told.backward, slow ? before : before + 1);
  }
}

TEST(CudaAttentionChoice, AnEngineThatFailsWhileItIsMeasuredIsNotTaken) {
  Told told{.failure = "out of luck"};
  Attention a(EngineWanted::automatic, told);
  a.forward();
  EXPECT_EQ(told.forward, 1);
  EXPECT_EQ(a.forward_engine(), "native");
}

TEST(CudaAttentionChoice, NothingIsPlannedOrMeasuredWhileAGraphIsCaptured) {
  for (const EngineWanted wanted : {EngineWanted::cudnn, EngineWanted::automatic}) {
    Told told;
    Attention a(wanted, told);
    CUDA_CHECK(cudaStreamBeginCapture(a.stream().get(), cudaStreamCaptureModeThreadLocal));
    a.queue_forward();
    cudaGraph_t graph = nullptr;
    CUDA_CHECK(cudaStreamEndCapture(a.stream().get(), &graph));
    CUDA_CHECK(cudaGraphDestroy(graph));
    EXPECT_EQ(told.asked, 0);
    EXPECT_EQ(told.forward, 0);
    EXPECT_EQ(a.measured(), 0);
    a.forward();  // now it may
    EXPECT_EQ(told.asked, 1);
    // And what is chosen stands in a capture.
    const int before = told.forward;
    CUDA_CHECK(cudaStreamBeginCapture(a.stream().get(), cudaStreamCaptureModeThreadLocal));
    a.queue_forward();
    CUDA_CHECK(cudaStreamEndCapture(a.stream().get(), &graph));
    CUDA_CHECK(cudaGraphDestroy(graph));
    EXPECT_EQ(told.forward, before + 1);
  }
}

TEST(CudaAttentionChoice, TheFileKeepsWhatWasMeasured) {
  const polar::test::TemporaryDirectory directory;
  const std::string file = (directory.path() / "engines.txt").string();
  {
    Told told{.slow = true};
    Attention a(EngineWanted::automatic, told, file);
    EXPECT_EQ((a.forward(), a.measured()), 1);
  }
  {
    Told told;  // fast now, but the run goes on as it was
    Attention a(EngineWanted::automatic, told, file);
    EXPECT_EQ(a.forward_engine(), "native");
    EXPECT_EQ(a.measured(), 0);
    a.backward();  // not in the file yet
    EXPECT_EQ(a.measured(), 1);
  }
  {
    Told told{.name = "fake 2"};  // choices of another version do not hold
    Attention a(EngineWanted::automatic, told, file);
    EXPECT_EQ((a.forward(), a.measured()), 1);
  }
  std::ofstream(file) << "polartrain attention choices 1\nfake 1, a GPU\nforward,bf16,1x40x40 cud";
  Told told;
  Attention a(EngineWanted::automatic, told, file);  // cut off: measured again
  EXPECT_EQ((a.forward(), a.measured()), 1);
}

TEST(CudaAttentionChoice, AFileThatCannotBeWrittenStopsNothing) {
  const polar::test::TemporaryDirectory directory;
  Told told;
  Attention a(EngineWanted::automatic, told, (directory.path() / "missing" / "engines.txt").string());
  a.forward();
  EXPECT_EQ(a.forward_engine(), "other");
}

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
    return error.what();
  }
  return "";
}

TEST(CudaAttentionChoice, UnknownEnginesAreRefused) {
  EXPECT_THAT(message_of([] { engine_wanted("cuddn"); }),
              AllOf(HasSubstr("found 'cuddn'"), HasSubstr("native, cudnn or auto")));
}

TEST(CudaAttentionChoice, DemandingWhatIsNotCompiledInSaysHowToGetIt) {
  if (cudnn_compiled_in()) GTEST_SKIP() << "this program was built with cuDNN";
  const AttentionSettings cudnn{"cudnn", ""}, automatic{"auto", ""};
  for (const std::string& message : {message_of([&] { CudaOps ops(0, "", cudnn); }),
                                     message_of([&] { CudaOps ops(CudaOps::PlanOnly{cudnn}); })})
    EXPECT_THAT(message, AllOf(HasSubstr("attention.engine: cudnn"), HasSubstr("tools/setup.sh --cudnn")));
  const CudaOps ops(0, "", automatic);
  EXPECT_EQ(ops.attention()->other(), nullptr);
}

TEST(CudaAttentionChoice, TheWorkspaceOfCudnnIsPlannedWhereItIsWanted) {
  AttentionShape shape{4, 1024, 1024, 14, 2, 64, 0, 0.125};
  Told told;
  CudaOps native, other;
  other.set_attention(
      std::make_unique<AttentionChoice>(EngineWanted::cudnn, std::make_unique<Fake>(told), "", "a GPU"));
  const size_t own = native.attention_workspace(shape, DType::bf16);
  EXPECT_EQ(native.attention_workspace(shape, DType::f32), own);
  EXPECT_EQ(other.attention_workspace(shape, DType::f32), own) << "cuDNN has no fp32";
  // The gradient of the scores alone: two bytes each.
  EXPECT_GT(other.attention_workspace(shape, DType::bf16), size_t{2} * 4 * 14 * 1024 * 1024);
  shape.query_time = 1;
  EXPECT_EQ(other.attention_workspace(shape, DType::bf16), native.attention_workspace(shape, DType::bf16));
  shape.query_time = shape.key_time = 65536;
  EXPECT_EQ(cudnn_attention_workspace(shape, DType::bf16), 0u) << "more than anybody would give it";
}

}  // namespace
}  // namespace polar::cuda

// CUDA graphs: what is captured is replayed, in any order that the dependencies allow; what a capture
// forbids.
#include "device_array.h"
#include "kernels/device.cuh"

namespace polar::kernels {

__global__ void scale_add_kernel(float* to, const float* from, float factor) {
  to[threadIdx.x] = factor * to[threadIdx.x] + from[threadIdx.x];
}

namespace {

using emulator::options;
using emulator::test::DeviceArray;
using emulator::test::in_every_order;
using emulator::test::WithOptions;

class Graph : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cudaStreamCreateWithFlags(&main_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaStreamCreateWithFlags(&side_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaEventCreate(&fork_), cudaSuccess);
    ASSERT_EQ(cudaEventCreate(&join_), cudaSuccess);
  }
  void TearDown() override {
    cudaEventDestroy(join_);
    cudaEventDestroy(fork_);
    cudaStreamDestroy(side_);
    cudaStreamDestroy(main_);
    cudaGetLastError();
  }
  cudaError_t scale_add(const DeviceArray<float>& to, const DeviceArray<float>& from, float factor,
                        cudaStream_t stream) {
    return device_launch(LaunchConfig(1, 4, 0, stream), &scale_add_kernel, to.get(), from.get(), factor);
  }
  void begin() { ASSERT_EQ(cudaStreamBeginCapture(main_, cudaStreamCaptureModeGlobal), cudaSuccess); }
  cudaGraphExec_t instantiate() {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(main_, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return executable;
  }
  // Whether the capture that is under way ends with this status.
  void expect_end(cudaError_t status) {
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(main_, &graph), status);
    EXPECT_EQ(graph, nullptr);
  }

  const DeviceArray<float> x_{std::vector<float>(4, 1.0f)}, y_{std::vector<float>(4, 10.0f)};
  cudaStream_t main_ = nullptr, side_ = nullptr;
  cudaEvent_t fork_ = nullptr, join_ = nullptr;
};

TEST_F(Graph, ReplaysWhatWasCaptured) {
  for (const bool lazy : {false, true}) {
    const WithOptions restored;
    options().lazy_streams = lazy;
    in_every_order([this] {
      const DeviceArray<float> total(std::vector<float>(4, 0.0f));
      begin();
      ASSERT_EQ(scale_add(total, x_, 2.0f, main_), cudaSuccess);
      ASSERT_EQ(scale_add(total, y_, 1.0f, main_), cudaSuccess);
      cudaGraphExec_t graph = instantiate();
      EXPECT_EQ(total.read()[0], 0.0f);  // capturing does nothing
      for (int i = 0; i < 3; ++i) ASSERT_EQ(cudaGraphLaunch(graph, main_), cudaSuccess);
      ASSERT_EQ(cudaGraphExecDestroy(graph), cudaSuccess);
      ASSERT_EQ(cudaStreamSynchronize(main_), cudaSuccess);
      EXPECT_EQ(total.read()[3], 77.0f);
    });
  }
}

TEST_F(Graph, ForksAndJoins) {
  in_every_order([this] {
    const DeviceArray<float> left(std::vector<float>(4, 1.0f)), right(std::vector<float>(4, 2.0f));
    begin();
    ASSERT_EQ(cudaEventRecord(fork_, main_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(side_, fork_, 0), cudaSuccess);
    ASSERT_EQ(scale_add(left, x_, 3.0f, main_), cudaSuccess);
    ASSERT_EQ(scale_add(right, y_, 1.0f, side_), cudaSuccess);
    ASSERT_EQ(cudaEventRecord(join_, side_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(main_, join_, 0), cudaSuccess);
    ASSERT_EQ(scale_add(left, right, 1.0f, main_), cudaSuccess);
    cudaGraphExec_t graph = instantiate();
    ASSERT_EQ(cudaGraphLaunch(graph, side_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(side_), cudaSuccess);
    EXPECT_EQ(left.read()[0], 16.0f);
    ASSERT_EQ(cudaGraphExecDestroy(graph), cudaSuccess);
  });
}

TEST_F(Graph, CopiesAndFillsAreCaptured) {
  std::vector<float> values(4, 7.0f);
  const DeviceArray<float> z(4);
  begin();
  ASSERT_EQ(cudaMemsetAsync(z.get(), 0, 16, main_), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(z.get(), values.data(), 8, cudaMemcpyHostToDevice, main_), cudaSuccess);
  cudaGraphExec_t graph = instantiate();
  values[1] = 8.0f;  // a graph reads host memory when it runs
  ASSERT_EQ(cudaGraphLaunch(graph, main_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(main_), cudaSuccess);
  EXPECT_EQ(z.read(), (std::vector<float>{7, 8, 0, 0}));
  ASSERT_EQ(cudaGraphExecDestroy(graph), cudaSuccess);
}

TEST_F(Graph, CanBeUpdated) {
  const DeviceArray<float> total(std::vector<float>(4, 1.0f));
  begin();
  ASSERT_EQ(scale_add(total, x_, 2.0f, main_), cudaSuccess);
  cudaGraphExec_t executable = instantiate();
  begin();
  ASSERT_EQ(scale_add(total, y_, 5.0f, main_), cudaSuccess);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(main_, &graph), cudaSuccess);
  cudaGraphExecUpdateResultInfo result;
  ASSERT_EQ(cudaGraphExecUpdate(executable, graph, &result), cudaSuccess);
  ASSERT_EQ(cudaGraphLaunch(executable, main_), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(main_), cudaSuccess);
  EXPECT_EQ(total.read()[0], 15.0f);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  begin();
  ASSERT_EQ(cudaMemsetAsync(total.get(), 0, 16, main_), cudaSuccess);
  ASSERT_EQ(cudaStreamEndCapture(main_, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphExecUpdate(executable, graph, &result), cudaErrorGraphExecUpdateFailure);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  ASSERT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
}

TEST_F(Graph, ForkThatIsNotJoinedIsAnError) {
  begin();
  ASSERT_EQ(cudaEventRecord(fork_, main_), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(side_, fork_, 0), cudaSuccess);
  ASSERT_EQ(scale_add(x_, y_, 1.0f, side_), cudaSuccess);
  expect_end(cudaErrorStreamCaptureUnjoined);
}

TEST_F(Graph, WhatACaptureForbids) {
  void* memory = nullptr;
  float value = 0.0f;
  begin();
  EXPECT_EQ(cudaMalloc(&memory, 4), cudaErrorStreamCaptureUnsupported);
  expect_end(cudaErrorStreamCaptureInvalidated);
  begin();
  EXPECT_EQ(cudaStreamSynchronize(main_), cudaErrorStreamCaptureUnsupported);
  expect_end(cudaErrorStreamCaptureInvalidated);
  begin();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaErrorStreamCaptureUnsupported);
  expect_end(cudaErrorStreamCaptureInvalidated);
  ASSERT_EQ(cudaEventRecord(fork_, side_), cudaSuccess);
  begin();
  EXPECT_EQ(cudaStreamWaitEvent(main_, fork_, 0), cudaErrorStreamCaptureIsolation);
  expect_end(cudaErrorStreamCaptureInvalidated);
  begin();
  ASSERT_EQ(cudaEventRecord(fork_, main_), cudaSuccess);
  EXPECT_EQ(cudaEventSynchronize(fork_), cudaErrorCapturedEvent);
  cudaStreamCaptureStatus status;
  ASSERT_EQ(cudaStreamIsCapturing(main_, &status), cudaSuccess);
  EXPECT_EQ(status, cudaStreamCaptureStatusActive);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(main_, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  // The default stream would wait for a blocking stream that is captured.
  cudaStream_t blocking = nullptr;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(blocking, cudaStreamCaptureModeGlobal), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(&value, x_.get(), 4, cudaMemcpyDeviceToHost), cudaErrorStreamCaptureImplicit);
  EXPECT_EQ(cudaStreamEndCapture(blocking, &graph), cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

}  // namespace
}  // namespace polar::kernels

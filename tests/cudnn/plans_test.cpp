// What cuDNN says to the graphs of attention_cudnn.cpp, without a GPU: it plans them for A100, H100 and B200
// as it would there, kernels compiled and all. That the plans compute the right thing is tested on a GPU
// (tests/cuda/attention_test.cpp).
#include <gmock/gmock.h>

#include <cmath>

#include "backend/cuda/attention_cudnn.h"
#include "backend/cuda/cudnn_library.h"
#include "base/error.h"
#include "kernels/emulator/options.h"

namespace polar::cuda {
namespace {

using ::testing::HasSubstr;

struct Gpu {
  const char* name;
  int capability, processors, shared_bytes;

  std::string json() const {
    return fmt::format(
        R"({{"deviceName":"{}","deviceVer":{},"multiProcessorCount":{},"maxSharedMemoryPerBlockOptin":{},)"
        R"("maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,)"
        R"("warpSize":32,"maxSharedMemoryPerBlock":49152,"reservedSharedMemoryPerBlock":1024,)"
        R"("maxRegistersPerSM":65536,"maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,)"
        R"("smClockRateKHz":1980000,"memClockRateKHz":2619000,"l2CacheSize":52428800,)"
        R"("totalGlobalMem":85000000000,"version":1,"cudaDeviceId":0,"deviceId":0,"smVersion":{},)"
        R"("driverVer":13000,"driverVersion":13000,"pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1}})",
        name, 10 * capability, processors, shared_bytes, 10 * capability);
  }
};
constexpr Gpu kGpus[] = {{"NVIDIA A100-SXM4-80GB", 80, 108, 166912},
                         {"NVIDIA H100 80GB HBM3", 90, 132, 232448},
                         {"NVIDIA B200", 100, 148, 232448}};

// q, k and v are slices of one matrix, as the model's are.
AttentionCase make_case(bool backward, int64_t batch, int64_t time, int64_t heads_q, int64_t heads_kv,
                        int64_t head_dim, int64_t window) {
  const int64_t qkv = (heads_q + 2 * heads_kv) * head_dim, out = heads_q * head_dim;
  AttentionCase c{.backward = backward,
                  .batch = batch,
                  .query_time = time,
                  .key_time = time,
                  .heads_q = heads_q,
                  .heads_kv = heads_kv,
                  .head_dim = head_dim,
                  .window = window,
                  .scale = 1.0 / std::sqrt(static_cast<double>(head_dim)),
                  .lse = true,
                  .q_stride = qkv,
                  .k_stride = qkv,
                  .v_stride = qkv,
                  .output_stride = out};
  if (backward) {
    c.doutput_stride = out;
    c.dq_stride = c.dk_stride = c.dv_stride = qkv;
  }
  return c;
}

AttentionShape shape_of(const AttentionCase& c) {
  return {c.batch, c.query_time, c.key_time, c.heads_q, c.heads_kv, c.head_dim, c.window, c.scale};
}

class CudnnPlans : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string problem = load_cudnn(); !problem.empty()) GTEST_SKIP() << problem;
  }
};

TEST_F(CudnnPlans, EveryCaseIsPlannedWithinTheWorkspaceSetAside) {
  for (const Gpu& gpu : kGpus) {
    emulator::options().capability = gpu.capability;  // the front end asks the runtime too
    for (const bool backward : {false, true})
      for (const AttentionCase& c :
           {make_case(backward, 16, 1024, 14, 2, 64, 0), make_case(backward, 1, 2048, 12, 2, 128, 0),
            make_case(backward, 2, 1024, 16, 8, 128, 256), make_case(backward, 2, 130, 3, 1, 64, 0),
            make_case(backward, 1, 200, 2, 2, 32, 0), make_case(backward, 1, 140, 3, 3, 96, 40)}) {
        const CudnnPlan plan = plan_cudnn_attention(c, gpu.json());
        EXPECT_EQ(plan.refusal, "") << gpu.name << ": " << c.text();
        EXPECT_LE(plan.workspace_bytes, cudnn_attention_workspace(shape_of(c), DType::bf16))
            << gpu.name << ": " << c.text();
      }
  }
}

TEST_F(CudnnPlans, WhatIsNotAskedOfItIsRefusedWithAReason) {
  const Gpu& gpu = kGpus[1];
  AttentionCase c = make_case(false, 1, 64, 2, 2, 64, 0);
  c.dtype = DType::f32;
  EXPECT_THAT(plan_cudnn_attention(c, gpu.json()).refusal, HasSubstr("fp32"));
  c = make_case(false, 1, 64, 2, 2, 64, 0);
  c.documents = true;
  EXPECT_THAT(plan_cudnn_attention(c, gpu.json()).refusal, HasSubstr("document"));
  c = make_case(false, 1, 64, 2, 2, 64, 0);
  c.query_time = 1;
  EXPECT_THAT(plan_cudnn_attention(c, gpu.json()).refusal, HasSubstr("decoding"));
}

TEST_F(CudnnPlans, WhatCudnnRefusesIsSaidInItsWords) {
  emulator::options().capability = 90;
  EXPECT_THAT(plan_cudnn_attention(make_case(true, 1, 1, 2, 2, 64, 0), kGpus[1].json()).refusal,
              HasSubstr("s_q = s_kv = 1"));
  EXPECT_THAT(plan_cudnn_attention(make_case(true, 1, 64, 2, 2, 20, 0), kGpus[1].json()).refusal,
              HasSubstr("multiple of 8"));
}

// Here there is no GPU: the library is found, and its handle is not to be had.
TEST_F(CudnnPlans, WithoutAGpuTheEngineSaysWhy) {
  EXPECT_TRUE(cudnn_compiled_in());
  std::string problem;
  EXPECT_EQ(make_cudnn_attention(problem), nullptr);
  EXPECT_THAT(problem, HasSubstr("cudnnCreate"));
  EXPECT_THAT(problem, HasSubstr("attention.engine=native"));
}

}  // namespace
}  // namespace polar::cuda

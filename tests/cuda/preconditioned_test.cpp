// Eigenbases on the CUDA backend, and the steps of Shampoo and SOAP that are made of them, against the CPU
// backend.
#include <gmock/gmock.h>

#include <set>

#include "base/error.h"
#include "config/reader.h"
#include "cuda/both.h"
#include "cuda/steps.h"
#include "errors.h"

namespace polar::cuda::test {
namespace {

using ::testing::HasSubstr;

constexpr double kUnit = 0x1p-24;  // of rounding in f32

// x x^T of a random (size, 2 size) matrix.
Pair square(Both& both, int64_t size) {
  const Values x = both.read_cpu(both.random(DType::f32, {size, 2 * size}, 5));
  Values a;
  for (int64_t i = 0; i < size; ++i)
    for (int64_t j = 0; j < size; ++j) {
      double sum = 0.0;
      for (int64_t k = 0; k < 2 * size; ++k) sum += x[size_t(i * 2 * size + k)] * x[size_t(j * 2 * size + k)];
      a.push_back(sum);
    }
  return both.make(DType::f32, {size, size}, a);
}

Pair basis_workspace(Both& both, int64_t size) {
  return both.workspace(both.cpu.eigenbasis_workspace(size, DType::f32),
                        both.cuda.eigenbasis_workspace(size, DType::f32));
}

// Row by row, a sign apart; `unit` is of the whole row.
void expect_same_vectors(const Values& got, const Values& want, int64_t size, double tolerance) {
  for (int64_t i = 0; i < size; ++i) {
    double inner = 0.0;
    for (int64_t j = 0; j < size; ++j) inner += got[size_t(i * size + j)] * want[size_t(i * size + j)];
    const double sign = inner < 0.0 ? -1.0 : 1.0;
    for (int64_t j = 0; j < size; ++j)
      ASSERT_NEAR(got[size_t(i * size + j)], sign * want[size_t(i * size + j)], tolerance) << i << ", " << j;
  }
}

TEST(CudaEigenbasis, ExactVectors) {
  for (const int64_t size : {1, 2, 15, 70}) {
    Both both;
    const Pair a = square(both, size), out = both.constant(DType::f32, {size, size}, 7.0),
               workspace = basis_workspace(both, size);
    both.cpu.eigenbasis({a.cpu, {}, out.cpu, workspace.cpu});
    both.cuda.eigenbasis({a.cuda, {}, out.cuda, workspace.cuda});
    // Both in f64, rounded once.
    expect_same_vectors(both.read_cuda(out), both.read_cpu(out), size, 2.0 * kUnit);
  }
}

// Products and QR in f32: the rounding of a sum of `size` terms, times the condition number of basis a, which
// for a (size, 2 size) Gaussian matrix is some ((1 + sqrt(1/2)) / (1 - sqrt(1/2)))^2 = 34.
TEST(CudaEigenbasis, AStepOfTheIteration) {
  for (const int64_t size : {1, 2, 15, 70}) {
    Both both;
    const Pair a = square(both, size), basis = both.zeros(DType::f32, {size, size}),
               out = both.constant(DType::f32, {size, size}, 7.0), workspace = basis_workspace(both, size);
    Values identity(size_t(size * size));
    for (int64_t i = 0; i < size; ++i) identity[size_t(i * (size + 1))] = 1.0;
    both.write(basis, identity);
    for (int step = 0; step < 2; ++step) {
      both.cpu.eigenbasis({a.cpu, basis.cpu, out.cpu, workspace.cpu});
      both.cuda.eigenbasis({a.cuda, basis.cuda, out.cuda, workspace.cuda});
      const Values want = both.read_cpu(out);
      expect_same_vectors(both.read_cuda(out), want, size,
                          8.0 * std::sqrt(static_cast<double>(size)) * kUnit * 34.0);
      both.write(basis, want);
    }
  }
}

TEST(CudaEigenbasis, ReportsNaNBeforeItWritesAnything) {
  Both both;
  const Pair a = square(both, 4), out = both.constant(DType::f32, {4, 4}, 7.0);
  Values values = both.read_cpu(a);
  values[5] = INFINITY;
  both.write(a, values);
  const Pair basis = both.zeros(DType::f32, {4, 4}), workspace = basis_workspace(both, 4);
  for (const Tensor& from : {Tensor{}, basis.cuda})
    EXPECT_THAT(polar::test::message_of([&] {
                  both.cuda.eigenbasis({a.cuda, from, out.cuda, workspace.cuda});
                }),
                HasSubstr("NaN or infinity"));
  EXPECT_EQ(both.read_cuda(out), Values(16, 7.0));
  EXPECT_THROW(both.cuda.eigenbasis({a.cuda, {}, a.cuda, workspace.cuda}), Error);
}

TEST(CudaEigenbasis, ThePlanForADeviceThatIsNotHereCountsTheSame) {
  Both both;
  const CudaOps planned{CudaOps::PlanOnly{}};
  for (const int64_t size : {1, 7, 896, 4864})
    EXPECT_EQ(planned.eigenbasis_workspace(size, DType::f32),
              both.cuda.eigenbasis_workspace(size, DType::f32));
}

TEST(CudaSymmetricPower, WithAShift) {
  Both both;
  const int64_t size = 20;
  const Pair a = square(both, size), p = both.zeros(DType::f32, {1, size, size});
  const Pair workspace = both.workspace(both.cpu.symmetric_power_workspace(1, size, DType::f32),
                                        both.cuda.symmetric_power_workspace(1, size, DType::f32));
  const Shape one{1, size, size};
  both.cpu.symmetric_power(a.cpu.slice(0, one), -0.25, p.cpu, workspace.cpu, 3.0);
  both.cuda.symmetric_power(a.cuda.slice(0, one), -0.25, p.cuda, workspace.cuda, 3.0);
  const Values want = both.read_cpu(p), got = both.read_cuda(p);
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 2.2 * kUnit);
}

// --- whole steps ---

OptimizerConfig config(const char* type) {
  GroupConfig group = group_defaults(type);
  group.match = {"*"};
  group.eps = 1e-3;
  group.precondition_frequency = 3;
  group.max_dimension = 8;
  group.weight_decay = 0.1;
  return {.groups = {group}};
}

// With steps in between that the control skips; long enough for every kind of step to be captured and
// replayed. max_dimension leaves no square without full rank, whose null vectors would be anybody's.
TEST(CudaPreconditioned, StepsAreThoseOfTheCpu) {
  for (const char* type : {"shampoo", "soap"}) {
    Both both;
    Steps cpu(both.cpu, config(type)), cuda(both.cuda, config(type));
    for (uint64_t step = 0; step < 10; ++step)
      for (Steps* steps : {&cpu, &cuda}) {
        steps->step(step);
        if (step % 4 == 1) steps->step(step, false);
      }
    EXPECT_EQ(cuda.phases(), 3u);
    const std::vector<float> want = cpu.parameters(), got = cuda.parameters();
    double largest = 0.0, apart = 0.0;
    for (size_t i = 0; i < want.size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(want[i])));
      apart = std::max(apart, std::abs(static_cast<double>(want[i]) - static_cast<double>(got[i])));
    }
    EXPECT_GT(largest, 0.01) << type;
    EXPECT_LE(apart / largest, 1e-4) << type;
  }
}

TEST(CudaPreconditioned, TheDeviceGivesWhatThePlanSays) {
  for (const char* type : {"shampoo", "soap"}) {
    const auto free_bytes = [] {
      size_t free = 0, total = 0;
      EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
      return free;
    };
    const size_t before = free_bytes();
    CudaOps ops;
    Steps steps(ops, config(type));
    for (uint64_t step = 0; step < 5; ++step) steps.step(step);
    EXPECT_EQ(before - free_bytes(), steps.planned_bytes() + ops.own_workspace()) << type;
  }
}

TEST(CudaPreconditioned, TheSameBitsTwice) {
  for (const char* type : {"shampoo", "soap"}) {
    std::set<std::vector<float>> results;
    for (int run = 0; run < 2; ++run) {
      Both both;
      Steps steps(both.cuda, config(type));
      for (uint64_t step = 0; step < 6; ++step) steps.step(step);
      results.insert(steps.parameters());
    }
    EXPECT_EQ(results.size(), 1u) << type;
  }
}

}  // namespace
}  // namespace polar::cuda::test

// The CUDA backend as an Ops: one GPU, one stream of work and one for uploads ahead of it. The operations
// stand in the files of this folder, a family each; their kernels in kernels/. Activations and weights are
// F32 or BF16; what accumulates over rows (gradients of parameters), rstd, lse and losses are F32; arithmetic
// is in float.
#pragma once

#include <memory>
#include <string>

#include "backend/cuda/runtime.h"
#include "ops/ops.h"

namespace polar::cuda {

class AttentionChoice;
class AttentionEngine;
class DenseSolver;
class GemmPlans;
class Svd;

// What computes attention: DeviceOptions::attention_engine and attention_choices.
struct AttentionSettings {
  std::string engine = "native";
  std::string choices = "";
};

class CudaOps final : public Ops {
 public:
  // Uses the GPU with this index (CUDA_VISIBLE_DEVICES numbers them). Error if it cannot be used.
  // `gemm_cache`: a file that keeps the measured choice of GEMM algorithms; empty: nothing is measured, the
  // library's first proposal is taken.
  // Usage error for an attention engine that is not there.
  explicit CudaOps(int device = 0, std::string gemm_cache = "", const AttentionSettings& attention = {});
  // Touches no GPU and needs none: only device_name, supports, host_memory, own_workspace and the sizes of
  // workspaces may be asked.
  struct PlanOnly {
    AttentionSettings attention = {};
  };
  explicit CudaOps(const PlanOnly& options);
  ~CudaOps() override;
  CudaOps(const CudaOps&) = delete;
  CudaOps& operator=(const CudaOps&) = delete;

  // What every operation is queued on.
  const Stream& stream() const { return stream_; }
  // Which engine does which case of attention; null if only planned. Tests set another.
  const AttentionChoice* attention() const { return attention_.get(); }
  void set_attention(std::unique_ptr<AttentionChoice> attention);

  std::string device_name() const override;
  bool supports(DType compute) const override { return compute == DType::f32 || compute == DType::bf16; }
  bool host_memory() const override { return false; }
  // The scratch of reductions and the workspace of products.
  size_t own_workspace() const override;
  void lend_workspace(const Tensor& workspace) override;
  void* allocate(size_t bytes) override;
  void release(void* memory) noexcept override;
  void* allocate_host(size_t bytes) override;
  void release_host(void* memory) noexcept override;
  void upload(const Tensor& to, const void* from) override;
  void download(void* to, const Tensor& from) override;
  void synchronize() override;
  PeakRate peak_rate(DType compute) const override;
  int64_t launches() const override;

  // queue.cpp
  std::unique_ptr<Mark> make_mark() override;
  void set(Mark& mark) override;
  bool reached(const Mark& mark) override;
  void wait(const Mark& mark) override;
  void follow(const Mark& mark) override;
  void upload_ahead(const Tensor& to, const void* from, const Mark& after, Mark& done) override;
  void download_queued(void* to, const Tensor& from) override;
  // A CUDA graph from the second run on.
  std::unique_ptr<Repeated> repeat(std::function<void()> work) override;

  // flat.cpp
  void fill(const Tensor& x, double value) override;
  void copy(const Tensor& from, const Tensor& to) override;
  void copy_rows(const MatrixView& from, const MatrixView& to) override;
  void cast(const Tensor& from, const Tensor& to) override;
  void scale(const Tensor& x, double factor) override;
  void axpby(double a, const Tensor& x, double b, const Tensor& y) override;
  void sum(const Tensor& x, const Tensor& out, bool accumulate) override;
  void sum_squares(const Tensor& x, const Tensor& out, bool accumulate) override;
  void dot(const Tensor& x, const Tensor& y, const Tensor& out, bool accumulate) override;

  // exact_sum.cpp
  void exact_squares(const Tensor& x, const Tensor& digits, bool accumulate) override;
  void exact_value(const Tensor& digits, const Tensor& out) override;

  // gemm.cpp; C may be F32 where A and B are BF16.
  void gemm(Transpose transpose_a, Transpose transpose_b, double alpha, const MatrixView& a,
            const MatrixView& b, double beta, const MatrixView& c) override;
  // The bias in the product's epilogue: one pass over c less, and rounded once.
  void gemm_bias(Transpose transpose_a, Transpose transpose_b, double alpha, const MatrixView& a,
                 const MatrixView& b, double beta, const MatrixView& c, const Tensor& bias) override;

  // bias.cpp
  void add_bias(const MatrixView& y, const Tensor& bias) override;
  void bias_backward(const MatrixView& dy, const Tensor& dbias) override;

  // embedding.cpp
  void embedding_forward(const Tensor& ids, const Tensor& table, const MatrixView& out) override;
  void embedding_backward(const Tensor& ids, const MatrixView& dout, const Tensor& dtable,
                          const Tensor& workspace) override;
  size_t embedding_backward_workspace(int64_t rows) const override;

  // norm.cpp
  void rms_norm_forward(const RmsNormForward& args) override;
  void rms_norm_backward(const RmsNormBackward& args) override;
  size_t rms_norm_backward_workspace(int64_t rows, int64_t cols, DType dtype) const override;

  // rope.cpp
  void qk_norm_rope_forward(const QkNormRopeForward& args) override;
  void qk_norm_rope_backward(const QkNormRopeBackward& args) override;
  size_t qk_norm_rope_backward_workspace(int64_t rows, int64_t heads, int64_t head_dim,
                                         DType dtype) const override;

  // attention.cpp
  void attention_forward(const AttentionForward& args) override;
  void attention_backward(const AttentionBackward& args) override;
  size_t attention_workspace(const AttentionShape& shape, DType dtype) const override;

  // swiglu.cpp
  void swiglu_forward(const MatrixView& gate_up, const MatrixView& out) override;
  void swiglu_backward(const MatrixView& dout, const MatrixView& gate_up,
                       const MatrixView& dgate_up) override;

  // cross_entropy.cpp
  void cross_entropy(const CrossEntropy& args) override;
  size_t cross_entropy_workspace(int64_t rows, int64_t cols, int64_t vocabulary, DType dtype) const override;

  // step_control.cpp, optimizer.cpp
  void step_control(const StepControl& args) override;
  void adamw(const AdamW& args) override;
  void momentum_update(const MomentumUpdate& args) override;
  void matrix_update(const MatrixUpdate& args) override;

  // polar.cpp
  void polar_normalize(const Tensor& x, double safety, double eps) override;
  void polar_gram(const Tensor& x, const Tensor& a, PolarPrecision precision) override;
  void polar_polynomial(const Tensor& a, double c1, double c2, const Tensor& b,
                        PolarPrecision precision) override;
  void polar_apply(const Tensor& x, double c0, const Tensor& b, const Tensor& y,
                   PolarPrecision precision) override;
  void polar_inner(const Tensor& x, const Tensor& y, const Tensor& out) override;
  void polar_precondition(const Tensor& x, const Tensor& a, const Tensor& factors) override;
  void normalize_neurons(const Tensor& x, const Tensor& squares, double beta, const Tensor& control) override;
  void sign(const Tensor& x) override;

  // svd.cpp; waits for the device, once a matrix.
  void polar_svd(const Tensor& x, const Tensor& u, const Tensor& workspace, const Tensor& values) override;
  size_t polar_svd_workspace(int64_t batch, int64_t rows, int64_t cols, DType dtype) const override;
  // polar_resolvent.cpp, symmetric_power.cpp, eigenbasis.cpp; F32. They wait for the device, once or twice a
  // call.
  void polar_resolvent(const PolarResolvent& args) override;
  size_t polar_resolvent_workspace(int64_t batch, int64_t rows, int64_t cols, DType dtype) const override;
  void symmetric_power(const Tensor& a, double exponent, const Tensor& p, const Tensor& workspace,
                       double shift) override;
  size_t symmetric_power_workspace(int64_t batch, int64_t size, DType dtype) const override;
  void eigenbasis(const Eigenbasis& args) override;
  size_t eigenbasis_workspace(int64_t size, DType dtype) const override;

 private:
  // Bytes of the scratch: what the partial sums of one flat reduction or one bias gradient need.
  static constexpr size_t kScratchBytes = size_t{4} << 20;

  // own_workspace() bytes: first the scratch, then what products use.
  std::byte* workspace();
  template <class T>
  T* scratch() {
    return reinterpret_cast<T*>(workspace());
  }
  void multiply(Transpose transpose_a, Transpose transpose_b, double alpha, const MatrixView& a,
                const MatrixView& b, double beta, const MatrixView& c, const Tensor& bias);

  class GraphWork;

  const Svd& svd() const;
  const DenseSolver& dense_solver() const;

  int device_;
  Stream stream_, upload_stream_;
  bool waits_ = false;              // set by operations that wait for the device: no graph can hold them
  std::byte* workspace_ = nullptr;  // lent, or own_memory_
  DeviceMemory own_memory_;
  std::unique_ptr<GemmPlans> gemm_;
  bool plans_cudnn_ = false;  // attention_workspace() has what cuDNN needs
  std::unique_ptr<AttentionChoice> attention_;
  mutable std::unique_ptr<Svd> svd_;                   // once the SVD oracle is used
  mutable std::unique_ptr<DenseSolver> dense_solver_;  // once one of the others is that factor matrices
};

}  // namespace polar::cuda

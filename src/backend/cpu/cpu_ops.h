// The CPU backend as an Ops: memory here, the operations in the files named in functions.h.
#pragma once

#include "backend/cpu/functions.h"

namespace polar::cpu {

class CpuOps : public Ops {
 public:
  // Sets the number of OpenMP threads of the process (0: what OpenMP found) and one thread for each call of
  // LAPACK, and prepares every thread of the pool.
  explicit CpuOps(int threads);

  std::string device_name() const override;
  bool supports(DType compute) const override { return compute == DType::f32 || compute == DType::f64; }
  bool host_memory() const override { return true; }
  void* allocate(size_t bytes) override;
  void release(void* memory) noexcept override;
  void* allocate_host(size_t bytes) override { return allocate(bytes); }
  void release_host(void* memory) noexcept override { release(memory); }
  void upload(const Tensor& to, const void* from) override;
  void download(void* to, const Tensor& from) override;
  void synchronize() override {}

  void fill(const Tensor& x, double value) override { cpu::fill(x, value); }
  void copy(const Tensor& from, const Tensor& to) override { cpu::copy(from, to); }
  void copy_rows(const MatrixView& from, const MatrixView& to) override { cpu::copy_rows(from, to); }
  void cast(const Tensor& from, const Tensor& to) override { cpu::cast(from, to); }
  void scale(const Tensor& x, double factor) override { cpu::scale(x, factor); }
  void axpby(double a, const Tensor& x, double b, const Tensor& y) override { cpu::axpby(a, x, b, y); }
  void sum(const Tensor& x, const Tensor& out, bool accumulate) override { cpu::sum(x, out, accumulate); }
  void sum_squares(const Tensor& x, const Tensor& out, bool accumulate) override {
    cpu::sum_squares(x, out, accumulate);
  }
  void dot(const Tensor& x, const Tensor& y, const Tensor& out, bool accumulate) override {
    cpu::dot(x, y, out, accumulate);
  }
  void exact_squares(const Tensor& x, const Tensor& digits, bool accumulate) override {
    cpu::exact_squares(x, digits, accumulate);
  }
  void exact_value(const Tensor& digits, const Tensor& out) override { cpu::exact_value(digits, out); }
  void gemm(Transpose transpose_a, Transpose transpose_b, double alpha, const MatrixView& a,
            const MatrixView& b, double beta, const MatrixView& c) override {
    cpu::gemm(transpose_a, transpose_b, alpha, a, b, beta, c);
  }
  void add_bias(const MatrixView& y, const Tensor& bias) override { cpu::add_bias(y, bias); }
  void bias_backward(const MatrixView& dy, const Tensor& dbias) override { cpu::bias_backward(dy, dbias); }
  void embedding_forward(const Tensor& ids, const Tensor& table, const MatrixView& out) override {
    cpu::embedding_forward(ids, table, out);
  }
  void embedding_backward(const Tensor& ids, const MatrixView& dout, const Tensor& dtable,
                          const Tensor& workspace) override {
    cpu::embedding_backward(ids, dout, dtable, workspace);
  }
  size_t embedding_backward_workspace(int64_t rows) const override {
    return cpu::embedding_backward_workspace(rows);
  }
  void rms_norm_forward(const RmsNormForward& args) override { cpu::rms_norm_forward(args); }
  void rms_norm_backward(const RmsNormBackward& args) override { cpu::rms_norm_backward(args); }
  size_t rms_norm_backward_workspace(int64_t rows, int64_t cols, DType dtype) const override {
    return cpu::rms_norm_backward_workspace(rows, cols, dtype);
  }
  void qk_norm_rope_forward(const QkNormRopeForward& args) override { cpu::qk_norm_rope_forward(args); }
  void qk_norm_rope_backward(const QkNormRopeBackward& args) override { cpu::qk_norm_rope_backward(args); }
  size_t qk_norm_rope_backward_workspace(int64_t rows, int64_t heads, int64_t head_dim,
                                         DType dtype) const override {
    return cpu::qk_norm_rope_backward_workspace(rows, heads, head_dim, dtype);
  }
  void attention_forward(const AttentionForward& args) override { cpu::attention_forward(args); }
  void attention_backward(const AttentionBackward& args) override { cpu::attention_backward(args); }
  size_t attention_workspace(const AttentionShape& shape, DType dtype) const override {
    return cpu::attention_workspace(shape, dtype);
  }
  void swiglu_forward(const MatrixView& gate_up, const MatrixView& out) override {
    cpu::swiglu_forward(gate_up, out);
  }
  void swiglu_backward(const MatrixView& dout, const MatrixView& gate_up,
                       const MatrixView& dgate_up) override {
    cpu::swiglu_backward(dout, gate_up, dgate_up);
  }
  void cross_entropy(const CrossEntropy& args) override { cpu::cross_entropy(args); }
  size_t cross_entropy_workspace(int64_t rows, int64_t cols, int64_t vocabulary, DType dtype) const override {
    return cpu::cross_entropy_workspace(rows, cols, vocabulary, dtype);
  }
  void step_control(const StepControl& args) override { cpu::step_control(args); }
  void adamw(const AdamW& args) override { cpu::adamw(args); }
  void momentum_update(const MomentumUpdate& args) override { cpu::momentum_update(args); }
  void matrix_update(const MatrixUpdate& args) override { cpu::matrix_update(args); }
  void polar_normalize(const Tensor& x, double safety, double eps) override {
    cpu::polar_normalize(x, safety, eps);
  }
  void polar_gram(const Tensor& x, const Tensor& a, PolarPrecision precision) override {
    cpu::polar_gram(x, a, precision);
  }
  void polar_polynomial(const Tensor& a, double c1, double c2, const Tensor& b,
                        PolarPrecision precision) override {
    cpu::polar_polynomial(a, c1, c2, b, precision);
  }
  void polar_apply(const Tensor& x, double c0, const Tensor& b, const Tensor& y,
                   PolarPrecision precision) override {
    cpu::polar_apply(x, c0, b, y, precision);
  }
  void polar_precondition(const Tensor& x, const Tensor& a, const Tensor& factors) override {
    cpu::polar_precondition(x, a, factors);
  }
  void normalize_neurons(const Tensor& x, const Tensor& squares, double beta,
                         const Tensor& control) override {
    cpu::normalize_neurons(x, squares, beta, control);
  }
  void sign(const Tensor& x) override { cpu::sign(x); }
  void polar_inner(const Tensor& x, const Tensor& y, const Tensor& out) override {
    cpu::polar_inner(x, y, out);
  }
  void polar_svd(const Tensor& x, const Tensor& u, const Tensor& workspace, const Tensor& values) override {
    cpu::polar_svd(x, u, workspace, values);
  }
  size_t polar_svd_workspace(int64_t batch, int64_t rows, int64_t cols, DType dtype) const override {
    return cpu::polar_svd_workspace(batch, rows, cols, dtype);
  }
  void polar_resolvent(const PolarResolvent& args) override { cpu::polar_resolvent(args); }
  size_t polar_resolvent_workspace(int64_t batch, int64_t rows, int64_t cols, DType dtype) const override {
    return cpu::polar_resolvent_workspace(batch, rows, cols, dtype);
  }
  void symmetric_power(const Tensor& a, double exponent, const Tensor& p, const Tensor& workspace,
                       double shift) override {
    cpu::symmetric_power(a, exponent, p, workspace, shift);
  }
  size_t symmetric_power_workspace(int64_t batch, int64_t size, DType dtype) const override {
    return cpu::symmetric_power_workspace(batch, size, dtype);
  }
  void eigenbasis(const Eigenbasis& args) override { cpu::eigenbasis(args); }
  size_t eigenbasis_workspace(int64_t size, DType dtype) const override {
    return cpu::eigenbasis_workspace(size, dtype);
  }

 private:
  int threads_;
};

}  // namespace polar::cpu

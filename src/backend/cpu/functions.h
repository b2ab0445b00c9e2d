// The free functions behind CpuOps (contracts in ops/ops.h), one .cpp a family.
#pragma once

#include "ops/ops.h"

namespace polar::cpu {

// gemm.cpp
void gemm(Transpose transpose_a, Transpose transpose_b, double alpha, const MatrixView& a,
          const MatrixView& b, double beta, const MatrixView& c);
void add_bias(const MatrixView& y, const Tensor& bias);
void bias_backward(const MatrixView& dy, const Tensor& dbias);

// attention_forward.cpp, attention_backward.cpp
void attention_forward(const AttentionForward& args);
void attention_backward(const AttentionBackward& args);
size_t attention_workspace(const AttentionShape& shape, DType dtype);

// cross_entropy.cpp
void cross_entropy(const CrossEntropy& args);
size_t cross_entropy_workspace(int64_t rows, int64_t cols, int64_t vocabulary, DType dtype);

// rows.cpp
void copy_rows(const MatrixView& from, const MatrixView& to);

// flat.cpp
void fill(const Tensor& x, double value);
void copy(const Tensor& from, const Tensor& to);
void cast(const Tensor& from, const Tensor& to);
void scale(const Tensor& x, double factor);
void axpby(double a, const Tensor& x, double b, const Tensor& y);
void sum(const Tensor& x, const Tensor& out, bool accumulate);
void sum_squares(const Tensor& x, const Tensor& out, bool accumulate);
void dot(const Tensor& x, const Tensor& y, const Tensor& out, bool accumulate);

// exact_sum.cpp
void exact_squares(const Tensor& x, const Tensor& digits, bool accumulate);
void exact_value(const Tensor& digits, const Tensor& out);

// embedding.cpp
void embedding_forward(const Tensor& ids, const Tensor& table, const MatrixView& out);
void embedding_backward(const Tensor& ids, const MatrixView& dout, const Tensor& dtable,
                        const Tensor& workspace);
size_t embedding_backward_workspace(int64_t rows);

// norm.cpp
void rms_norm_forward(const RmsNormForward& args);
void rms_norm_backward(const RmsNormBackward& args);
size_t rms_norm_backward_workspace(int64_t rows, int64_t cols, DType dtype);

// rope.cpp
void qk_norm_rope_forward(const QkNormRopeForward& args);
void qk_norm_rope_backward(const QkNormRopeBackward& args);
size_t qk_norm_rope_backward_workspace(int64_t rows, int64_t heads, int64_t head_dim, DType dtype);

// swiglu.cpp
void swiglu_forward(const MatrixView& gate_up, const MatrixView& out);
void swiglu_backward(const MatrixView& dout, const MatrixView& gate_up, const MatrixView& dgate_up);

// optimizer.cpp
void step_control(const StepControl& args);
void adamw(const AdamW& args);
void momentum_update(const MomentumUpdate& args);
void matrix_update(const MatrixUpdate& args);

// polar.cpp
void polar_normalize(const Tensor& x, double safety, double eps);
void polar_gram(const Tensor& x, const Tensor& a, PolarPrecision precision);
void polar_polynomial(const Tensor& a, double c1, double c2, const Tensor& b, PolarPrecision precision);
void polar_apply(const Tensor& x, double c0, const Tensor& b, const Tensor& y, PolarPrecision precision);
void polar_inner(const Tensor& x, const Tensor& y, const Tensor& out);
void polar_precondition(const Tensor& x, const Tensor& a, const Tensor& factors);
void normalize_neurons(const Tensor& x, const Tensor& squares, double beta, const Tensor& control);
void sign(const Tensor& x);
void polar_svd(const Tensor& x, const Tensor& u, const Tensor& workspace, const Tensor& values);
size_t polar_svd_workspace(int64_t batch, int64_t rows, int64_t cols, DType dtype);

// polar_resolvent.cpp
void polar_resolvent(const PolarResolvent& args);
size_t polar_resolvent_workspace(int64_t batch, int64_t rows, int64_t cols, DType dtype);

// symmetric_power.cpp
void symmetric_power(const Tensor& a, double exponent, const Tensor& p, const Tensor& workspace,
                     double shift);
size_t symmetric_power_workspace(int64_t batch, int64_t size, DType dtype);

// eigenbasis.cpp
void eigenbasis(const Eigenbasis& args);
size_t eigenbasis_workspace(int64_t size, DType dtype);

}  // namespace polar::cpu

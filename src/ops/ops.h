// The one interface to a device: every operation that the model, the optimizers and the trainer need. They
// are written once against it; backends (src/backend) implement it. Nothing above src/backend names one.
//
// Conventions
//  * Shapes in the comments use B batch, T time, N = B*T rows, C width, I MLP width, Hq/Hkv heads,
//    D head width, V vocabulary. Everything is row-major; a MatrixView may have a row stride, a Tensor is
//    contiguous.
//  * "=" writes the output, "+=" accumulates into it. Outputs overlap inputs only where the comment says so.
//  * dtypes: all floating tensors of a call share one dtype unless said otherwise. The CPU backend computes
//    in f32, and in f64 for tests. The CUDA backend computes in f32 or bf16; with bf16 these are f32 all the
//    same: what accumulates over rows (dweight, dbias, dtable, dhead), rstd, lse, losses, rope_table. C of a
//    gemm may be f32 where A and B are bf16. Reductions accumulate in f32 or better, in an order that depends
//    on the shapes alone: never on the number of threads. Same inputs, same bits.
//  * Operations are queued; results are on the host only after `download` or `synchronize`. Scalars that one
//    operation makes and another uses therefore stay in device memory (one-element f64 tensors).
//  * No operation allocates memory. Scratch space comes from the caller: `*_workspace` says how many bytes.
//  * A violated contract (shape or dtype) is an Error: a defect of the caller, never of the user's input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tensor/tensor.h"

namespace polar {

enum class Transpose : uint8_t { no, yes };

// RMSNorm of rows, fused with the residual addition before it.
struct RmsNormForward {
  MatrixView input;     // (N, C)
  MatrixView residual;  // (N, C), optional (data == nullptr): added to the input first
  MatrixView sum;       // (N, C) = input + residual; required with residual, may be the same memory as either
  Tensor weight;        // (C)
  double eps = 1e-6;
  MatrixView output;  // (N, C) = x * rstd * weight, x = input (+ residual)
  Tensor rstd;        // (N) = 1 / sqrt(mean(x^2) + eps), f32 (f64 for f64)
};
struct RmsNormBackward {
  MatrixView doutput;  // (N, C)
  MatrixView input;    // (N, C): x of the forward pass (the sum)
  Tensor weight;       // (C)
  Tensor rstd;         // (N)
  MatrixView dinput;  // (N, C) += : the gradient that flows past the norm along the residual is already there
  Tensor dweight;     // (C) +=
  Tensor workspace;   // rms_norm_backward_workspace(N, C) bytes
};

// Per-head RMSNorm (optional) and rotary embedding, HF half-split layout: for j < D/2
//   y[j] = x[j] cos - x[j + D/2] sin,  y[j + D/2] = x[j + D/2] cos + x[j] sin.
struct QkNormRope {
  int64_t time = 0;            // row r has position first_position + r % time
  int64_t first_position = 0;  // > 0 while decoding with a cache
  int64_t heads = 0, head_dim = 0;
  double eps = 1e-6;
  Tensor rope_table;  // (positions, D): cos for j < D/2, then sin
};
struct QkNormRopeForward : QkNormRope {
  MatrixView input;   // (N, heads*D)
  Tensor weight;      // (D), empty: no norm (Qwen2)
  MatrixView output;  // (N, heads*D) = ; may be the input itself
};
struct QkNormRopeBackward : QkNormRope {
  MatrixView input;      // (N, heads*D): the forward input; unused without a norm
  Tensor weight;         // (D) or empty
  MatrixView dgradient;  // (N, heads*D): on entry d/doutput, on exit d/dinput (in place)
  Tensor dweight;        // (D) += ; empty without a norm
  Tensor workspace;      // qk_norm_rope_backward_workspace(N, heads, D) bytes
};

// softmax(scale q k^T + mask) v. Query i of a sequence sits at position key_time - query_time + i and sees
// the keys j with j <= i, j > i - window (window > 0), j >= document_starts[i].
struct AttentionShape {
  int64_t batch = 1, query_time = 1, key_time = 1;  // equal except while decoding with a cache
  int64_t heads_q = 1, heads_kv = 1, head_dim = 1;  // heads_q is a multiple of heads_kv
  int64_t window = 0;                               // 0: no window
  double scale = 1.0;                               // 1/sqrt(D)
};
struct AttentionForward {
  AttentionShape shape;
  MatrixView q;            // (B*query_time, Hq*D)
  MatrixView k, v;         // (B*key_time, Hkv*D)
  Tensor document_starts;  // i32 (B, query_time): first position of the query's document; empty: no documents
  MatrixView output;       // (B*query_time, Hq*D) =
  Tensor lse;              // (B, Hq, query_time) = log sum exp of the scaled, masked scores; may be empty
  Tensor workspace;        // attention_workspace(shape) bytes
};
struct AttentionBackward {
  AttentionShape shape;
  MatrixView q, k, v;
  Tensor document_starts;
  MatrixView output, doutput;
  Tensor lse;
  MatrixView dq, dk, dv;  // =
  Tensor workspace;       // attention_workspace(shape) bytes
};

// Cross-entropy of hidden * head^T against targets, fused with its backward pass and done in chunks of rows:
// the (N, V) logits never exist whole. With soft-cap c > 0 the logits are c * tanh(x / c). Objective per row:
// loss + z_loss * lse^2; rows with target == ignore_index give 0 and no gradient.
struct CrossEntropy {
  MatrixView hidden;  // (N, C)
  Tensor head;        // (V, C)
  Tensor targets;     // i32 (N)
  int32_t ignore_index = -1;
  double z_loss = 0.0;
  double softcap = 0.0;
  double gradient_scale = 1.0;  // d(total)/d(row objective), e.g. 1 / valid tokens of the global batch
  Tensor losses;                // (N) = cross-entropy in nats, without the z term
  Tensor lse;                   // (N) = log sum exp of the (capped) logits; optional
  MatrixView dhidden;           // (N, C) = ; data == nullptr: forward only
  Tensor dhead;                 // (V, C) += ; empty in forward only
  Tensor workspace;             // cross_entropy_workspace(N, C, V) bytes
};

// Of Ops::exact_squares. Digit i counts units of 2^(32 i + kExactExponent); the last two count infinite sums
// and NaNs.
constexpr int64_t kExactAtom = 64, kExactDigits = 22, kExactExponent = -320;

// What one optimizer step has to know, computed on the device so that nothing waits for the host: a f64
// tensor with these elements. `step_control` writes it, optimizers read it.
enum ControlIndex : int {
  kControlApply = 0,         // 1: do the step; 0: skip it (nothing changes)
  kControlGradientScale,     // what gradients are multiplied with: makes them the mean's, and clips
  kControlAppliedSteps,      // steps applied, this one included: Adam's t
  kControlLoss,              // mean loss of the global batch
  kControlGradientNorm,      // global norm before clipping
  kControlConsecutiveSkips,  // skipped steps in a row, this one included
  kControlTotalSkips,
  kControlSize
};
struct StepControl {
  Tensor loss_sum;          // f64 (1): sum of the losses of all valid tokens
  Tensor gradient_squares;  // f64 (1): sum of squares of all gradients
  Tensor valid_tokens;      // f64 (1): of the global batch; the loss is loss_sum / valid_tokens
  // What every row's gradient was divided by when the gradients were summed (a constant of the run, so that
  // nothing has to know valid_tokens before the last row). Norm and gradient scale are those of the mean:
  // they contain the factor gradient_tokens / valid_tokens.
  double gradient_tokens = 1.0;
  double clip_norm = 0.0;  // 0: no clipping; scale = min(1, clip_norm / (norm + 1e-6)) as torch does
  // The guard skips steps with a non-finite or spiking loss or gradient norm. A spike is a value above
  // mean + guard_deviations * max(std, 1e-3 |mean|) of the window, once it holds guard_minimum values.
  // Skipped steps do not enter the window.
  bool guard = true;
  double guard_deviations = 6.0;
  int64_t guard_window = 128;
  int64_t guard_minimum = 32;
  // After so many skipped steps in a row the run is over: every further one changes nothing at all, control
  // included, but for kControlApply = 0. 0: never.
  int64_t guard_maximum_skips = 0;
  // f64 (2 + 2 * guard_window): count of values ever entered, reserved, ring of losses, ring of gradient
  // norms
  Tensor window;
  Tensor control;  // f64 (kControlSize): read and written
};

struct AdamW {
  Tensor parameter, gradient, m, v;  // flat, same count; parameter and state are written
  Tensor lr;                         // f64 (1)
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;  // decoupled: p -= lr * wd * p
  Tensor control;
  // bf16, same count, written with the parameter rounded; empty: none. (CUDA only.) Rounded to nearest even,
  // or, with a seed, stochastically: up or down with probabilities that keep the mean, by noise that is a
  // function of (seed, applied steps, index) alone.
  Tensor weight = {};
  uint64_t rounding_seed = 0;
  bool cautious = false;  // decay only where the step goes towards zero too: m * p >= 0
};

// Exponent-weighted gradients of a batch of matrices of one size, scaled by the control's gradient scale:
//   buffer = beta * buffer + gain * gradient;   out = nesterov ? beta * buffer + gain * gradient : buffer
// (`gain` is 1 - beta for an EMA, 1 for heavy ball.) `out` may be empty. A skipped step leaves buffer and out
// alone. On CUDA each of gradient, buffer and out is f32 or bf16, and with beta = 0 the buffer is not read.
struct MomentumUpdate {
  Tensor gradient;     // one matrix, as large as the buffer; or with `places` a flat buffer that holds all
  Tensor buffer, out;  // the matrices one after the other
  double beta = 0.95, gain = 0.05;
  bool nesterov = false;
  Tensor control;
  Tensor places = {};    // f64 (batch), whole numbers: where in `gradient` each matrix begins
  Tensor beta_now = {};  // f64 (1): instead of `beta`; the gain is then 1 - that if `average`, else `gain`
  bool average = false;
  // Lion's: above 0, out = interpolation * buffer before + (1 - interpolation) * gradient, and no Nesterov.
  double interpolation = 0.0;
};

// For a batch of matrices of one size:
// parameter = (1 - lr * weight_decay) * parameter - lr * multiplier * power(|scale|, exponent) * direction
struct MatrixUpdate {
  Tensor parameter;  // one matrix, or with `places` a flat buffer that holds all; on CUDA f32
  Tensor direction;  // the matrices one after the other; on CUDA f32 or bf16
  Tensor scale;      // f64 (batch) on the device (the nuclear norms <M, U>), or empty for 1
  double exponent = 1.0;
  Tensor lr;  // f64 (1)
  double multiplier = 1.0, weight_decay = 0;
  Tensor control;
  Tensor weight = {};  // as in AdamW; with `places` the flat buffer of all
  uint64_t rounding_seed = 0;
  bool cautious = false;                   // decay only where direction * parameter >= 0
  Tensor places = {}, weight_places = {};  // f64 (batch), whole numbers: where each matrix begins
};

// Of the products of the polar iterations on f32 tensors. reduced: operands may keep 16 significant bits only
// (each term within 2^-16 of its value) where the backend gains by it; elsewhere the same as full.
enum class PolarPrecision : uint8_t { full, reduced };

// How polar_resolvent solves. cholesky: by the square's factor; its condition is 1 + scale ||x||^2 / shift,
// of which a factor of 100 or so is harmless. qr: by the factor of [sqrt(scale) x; sqrt(shift) I], whose
// condition is the root of that, or by something as good (the CPU: by the square and its factor in f64).
enum class Factorization : uint8_t { cholesky, qr };

// y = x (shift I + scale x^T x)^{-1} = (shift I + scale x x^T)^{-1} x: every singular value
// sigma of x becomes sigma / (shift + scale sigma^2). For each of a batch of matrices; what is said of errors
// is for norms ||x||_2 of about 1 at most, as the iterations have them.
struct PolarResolvent {
  Tensor x;                         // (batch, m, n), f32 or f64
  Tensor y;                         // same shape, not x
  double scale = 1.0, shift = 1.0;  // positive
  Factorization by = Factorization::cholesky;
  Tensor workspace;  // of polar_resolvent_workspace bytes
};

// Orthonormal vectors, in rows, that bring a symmetric matrix to diagonal form: out a out^T.
struct Eigenbasis {
  Tensor a;  // (s, s), symmetric positive semidefinite, f32 (its eigenvectors are computed in f64) or f64
  // (s, s): such vectors of a matrix near to a. Then out is one step of orthogonal iteration: the rows of
  // `basis a`, in the order of descending basis_i a basis_i^T, are made orthonormal (QR), and row i of out is
  // what row i of basis has become. Empty: out has the eigenvectors themselves.
  Tensor basis;
  Tensor out;        // (s, s) = ; neither a nor basis
  Tensor workspace;  // of eigenbasis_workspace bytes
};

// A place in the order of the device's work, or of what goes on beside it (collectives between ranks): made
// once (Ops::make_mark, Communicator::make_mark), set again and again.
class Mark {
 public:
  virtual ~Mark() = default;
  // Has the work come as far? A mark that was never set is reached.
  virtual bool reached() const { return true; }
  virtual void wait() const {}  // the host waits; an Error if the work before the mark failed
};

// Work that is queued again and again, every time with the same arguments (Ops::repeat). A device may keep
// what the first runs queued and replay it, so the work may read memory whose contents change, but nothing
// else that does.
class Repeated {
 public:
  explicit Repeated(std::function<void()> work) : work_(std::move(work)) {}
  virtual ~Repeated() = default;
  Repeated(const Repeated&) = delete;
  Repeated& operator=(const Repeated&) = delete;
  virtual void run() { work_(); }

 protected:
  std::function<void()> work_;
};

struct PeakRate {
  double flops = 0.0;
  std::string source;  // "132 SMs x 1.83 GHz x 4096", for the log
};

class Ops {
 public:
  virtual ~Ops() = default;

  // --- device and memory ---
  virtual std::string device_name() const = 0;     // "cpu: 2 threads, AVX-512"
  virtual bool supports(DType compute) const = 0;  // for parameters and activations
  virtual bool host_memory() const = 0;            // device memory can be read by the host directly
  // Device memory that the backend works with itself. Lent before the first operation (and kept until the
  // backend goes) it can be part of a plan; else the backend allocates it when it is first needed.
  virtual size_t own_workspace() const { return 0; }
  virtual void lend_workspace(const Tensor& /*workspace*/) {}  // of own_workspace() bytes
  virtual void* allocate(size_t bytes) = 0;  // aligned to MemoryPlan::kAlignment; Error naming the need
  virtual void release(void* memory) noexcept = 0;
  // Host memory that copies to the device fast and in the background (pinned, where that is a difference).
  virtual void* allocate_host(size_t bytes) = 0;
  virtual void release_host(void* memory) noexcept = 0;
  // Both wait: `upload` has read `from` on return, `download` has written `to`, after everything queued
  // before.
  virtual void upload(const Tensor& to, const void* from) = 0;
  virtual void download(void* to, const Tensor& from) = 0;
  virtual void synchronize() = 0;
  // The FLOPs a second of matrix products that the device can do at most in this format: what MFU is a share
  // of. Zero where nobody knows.
  virtual PeakRate peak_rate(DType /*compute*/) const { return {}; }
  // Kernels of our own that this process has launched so far; 0 where there is no such thing.
  virtual int64_t launches() const { return 0; }

  // --- order: what lets the host run ahead of the device ---
  // The defaults are those of a backend whose operations are done when they return.
  virtual std::unique_ptr<Mark> make_mark() { return std::make_unique<Mark>(); }
  virtual void set(Mark& /*mark*/) {}  // here: behind everything queued so far
  // Has the device come as far? A mark that was never set is reached.
  virtual bool reached(const Mark& mark) { return mark.reached(); }
  virtual void wait(const Mark& mark) { mark.wait(); }  // the host waits
  // What is queued from now on waits; the host does not, unless operations are done when they return.
  virtual void follow(const Mark& mark) { mark.wait(); }
  // Copies beside the queue, as soon as `after` is reached, and then sets `done`. `from` is memory of
  // allocate_host that stays as it is until then.
  virtual void upload_ahead(const Tensor& to, const void* from, const Mark& /*after*/, Mark& /*done*/) {
    upload(to, from);
  }
  // Queues a copy to memory of allocate_host; it has been made when a mark set after it is reached.
  virtual void download_queued(void* to, const Tensor& from) { download(to, from); }
  virtual std::unique_ptr<Repeated> repeat(std::function<void()> work) {
    return std::make_unique<Repeated>(std::move(work));
  }

  // --- flat operations ---
  virtual void fill(const Tensor& x, double value) = 0;                          // also i32
  virtual void copy(const Tensor& from, const Tensor& to) = 0;                   // same dtype and count
  virtual void copy_rows(const MatrixView& from, const MatrixView& to) = 0;      // same dtype, rows and cols
  virtual void cast(const Tensor& from, const Tensor& to) = 0;                   // f32 <-> f64, f32 <-> bf16
  virtual void scale(const Tensor& x, double factor) = 0;                        // x *= factor
  virtual void axpby(double a, const Tensor& x, double b, const Tensor& y) = 0;  // y = a x + b y
  // out: f64 (1). += when accumulate, else =. Fixed order: chunks of a fixed size, then the chunks in turn.
  virtual void sum(const Tensor& x, const Tensor& out, bool accumulate) = 0;
  virtual void sum_squares(const Tensor& x, const Tensor& out, bool accumulate) = 0;
  virtual void dot(const Tensor& x, const Tensor& y, const Tensor& out, bool accumulate) = 0;
  // A sum of squares that does not depend on how x was cut, if it was cut at multiples of kExactAtom elements
  // and filled up with zeros: the squares of each kExactAtom elements are summed in f64 in a fixed order, and
  // these sums exactly, in fixed point (without what is below 2^kExactExponent). x: f32. digits: f64
  // (kExactDigits),
  // += when accumulate, else =; whole numbers, of one x below 2^32. Those of several x may be added, element
  // by element, as often as the sums stay below 2^53.
  virtual void exact_squares(const Tensor& x, const Tensor& digits, bool accumulate) = 0;
  // out: f64 (1), = the value of digits, the same for all that stand for the same number; infinite or NaN
  // where x was.
  virtual void exact_value(const Tensor& digits, const Tensor& out) = 0;

  // --- model ---
  // c = alpha op(a) op(b) + beta c
  virtual void gemm(Transpose transpose_a, Transpose transpose_b, double alpha, const MatrixView& a,
                    const MatrixView& b, double beta, const MatrixView& c) = 0;
  virtual void add_bias(const MatrixView& y, const Tensor& bias) = 0;  // y (N, C) += bias (C)
  // gemm and add_bias in one: c = alpha op(a) op(b) + beta c + bias, a value a column
  virtual void gemm_bias(Transpose transpose_a, Transpose transpose_b, double alpha, const MatrixView& a,
                         const MatrixView& b, double beta, const MatrixView& c, const Tensor& bias) {
    gemm(transpose_a, transpose_b, alpha, a, b, beta, c);
    add_bias(c, bias);
  }
  virtual void bias_backward(const MatrixView& dy, const Tensor& dbias) = 0;  // dbias (C) += column sums
  // out (N, C) = rows `ids` (N) of table (V, C). ids in [0, V): the CPU refuses others with an Error; on
  // CUDA, where nobody waits to look, such an id gives a row of NaN, and in the backward pass nothing.
  virtual void embedding_forward(const Tensor& ids, const Tensor& table, const MatrixView& out) = 0;
  // dtable (V, C) += ; rows of equal id are added in the order of their position. ids in [0, V).
  virtual void embedding_backward(const Tensor& ids, const MatrixView& dout, const Tensor& dtable,
                                  const Tensor& workspace) = 0;
  virtual size_t embedding_backward_workspace(int64_t rows) const = 0;
  virtual void rms_norm_forward(const RmsNormForward& args) = 0;
  virtual void rms_norm_backward(const RmsNormBackward& args) = 0;
  virtual size_t rms_norm_backward_workspace(int64_t rows, int64_t cols, DType dtype) const = 0;
  virtual void qk_norm_rope_forward(const QkNormRopeForward& args) = 0;
  virtual void qk_norm_rope_backward(const QkNormRopeBackward& args) = 0;
  virtual size_t qk_norm_rope_backward_workspace(int64_t rows, int64_t heads, int64_t head_dim,
                                                 DType dtype) const = 0;
  virtual void attention_forward(const AttentionForward& args) = 0;
  virtual void attention_backward(const AttentionBackward& args) = 0;
  virtual size_t attention_workspace(const AttentionShape& shape, DType dtype) const = 0;
  // gate_up (N, 2I) = [gate | up]; out (N, I) = silu(gate) * up
  virtual void swiglu_forward(const MatrixView& gate_up, const MatrixView& out) = 0;
  // dgate_up = ; may be the same memory as gate_up
  virtual void swiglu_backward(const MatrixView& dout, const MatrixView& gate_up,
                               const MatrixView& dgate_up) = 0;
  virtual void cross_entropy(const CrossEntropy& args) = 0;
  virtual size_t cross_entropy_workspace(int64_t rows, int64_t cols, int64_t vocabulary,
                                         DType dtype) const = 0;

  // --- optimizers ---
  virtual void step_control(const StepControl& args) = 0;
  virtual void adamw(const AdamW& args) = 0;
  virtual void momentum_update(const MomentumUpdate& args) = 0;
  virtual void matrix_update(const MatrixUpdate& args) = 0;

  // --- polar: batches of equally shaped matrices, x (batch, m, n), s = min(m, n) ---
  // x_i *= 1 / (safety * ||x_i||_F + eps). A zero matrix stays zero.
  virtual void polar_normalize(const Tensor& x, double safety, double eps) = 0;
  // a (batch, s, s) = x x^T if m <= n, else x^T x: half the work of a GEMM, both triangles written.
  virtual void polar_gram(const Tensor& x, const Tensor& a,
                          PolarPrecision precision = PolarPrecision::full) = 0;
  // b (batch, s, s) = c1 a + c2 a^2 for symmetric a: half the work, both triangles written.
  virtual void polar_polynomial(const Tensor& a, double c1, double c2, const Tensor& b,
                                PolarPrecision precision = PolarPrecision::full) = 0;
  // y = c0 x + b x if m <= n, else c0 x + x b
  virtual void polar_apply(const Tensor& x, double c0, const Tensor& b, const Tensor& y,
                           PolarPrecision precision = PolarPrecision::full) = 0;
  // AOL's preconditioning (Prach and Lampert 2022): with f_j = (sum_k |a_jk|)^{-1/2} for a the Gram matrices
  // of x, the short side's rows (columns if m > n) of x and both sides of a are multiplied with f: no
  // singular value of x is above 1 from then on. Where the sum is 0 so is f. factors: f64 (batch, s),
  // overwritten.
  virtual void polar_precondition(const Tensor& x, const Tensor& a, const Tensor& factors) = 0;
  // NorMuon (arXiv 2510.05491): neurons are rows if m >= n, else columns. The mean square of each goes into
  // squares (batch, max(m, n); f32, or f64 with f64 x): s = beta s + (1 - beta) mean; the neuron is
  // multiplied with 1 / sqrt(max(s, 1e-10)), and the matrix then with what gives it its old Frobenius norm. A
  // step that `control` skips leaves squares alone, x is then whatever it may.
  virtual void normalize_neurons(const Tensor& x, const Tensor& squares, double beta,
                                 const Tensor& control) = 0;
  virtual void sign(const Tensor& x) = 0;  // -1, 0 or 1 of every element, in place; NaN stays NaN
  // out: f64 (batch) = <x_i, y_i>
  virtual void polar_inner(const Tensor& x, const Tensor& y, const Tensor& out) = 0;
  // u = the exact orthogonal factor of x, from the SVD; singular values below s * eps * largest give 0. x
  // stays. `values`, if given: f64 (batch, s) = all singular values, descending.
  virtual void polar_svd(const Tensor& x, const Tensor& u, const Tensor& workspace,
                         const Tensor& values = {}) = 0;
  virtual size_t polar_svd_workspace(int64_t batch, int64_t rows, int64_t cols, DType dtype) const = 0;
  // Error for a matrix with NaN or infinity in it.
  virtual void polar_resolvent(const PolarResolvent& args) = 0;
  virtual size_t polar_resolvent_workspace(int64_t batch, int64_t rows, int64_t cols, DType dtype) const = 0;
  // p (batch, s, s) = a^exponent for symmetric positive semidefinite a, through its eigenvalues; those below
  // s * eps * largest give 0. f32 (computed in f64) or f64; p may be a. Error for NaN or infinity. With a
  // `shift` above 0 it is (a + shift I)^exponent, of all eigenvalues; those below 0 count as 0.
  virtual void symmetric_power(const Tensor& a, double exponent, const Tensor& p, const Tensor& workspace,
                               double shift = 0.0) = 0;
  virtual size_t symmetric_power_workspace(int64_t batch, int64_t size, DType dtype) const = 0;
  // Error for NaN or infinity.
  virtual void eigenbasis(const Eigenbasis& args) = 0;
  virtual size_t eigenbasis_workspace(int64_t size, DType dtype) const = 0;
};

struct DeviceOptions {
  std::string device = "auto";  // "auto", "cpu", "cuda"
  int index = 0;                // CUDA: which of the GPUs that CUDA_VISIBLE_DEVICES leaves
  int threads = 0;              // CPU threads; 0: OMP_NUM_THREADS, else all cores this process may use
  // CUDA: the file that keeps which GEMM algorithms were measured to be the fastest. Empty: nothing is
  // measured, the library's first proposal is taken. Either way a run that goes on computes the same bits.
  std::string gemm_cache = "";
  // What computes attention on CUDA in bf16: "native" (our kernels), "cudnn" (where it can do the case),
  // "auto" (both are measured when a case is first met). auto keeps its choices in `attention_choices`, so
  // that a run that goes on computes the same bits; empty: every process measures.
  std::string attention_engine = "native";
  std::string attention_choices = "";
  // Only what a plan needs will be asked: name, formats, sizes of workspaces. `cuda` then needs no GPU.
  bool plan_only = false;
};

// Makes the backend. Errors (exit code 2): an unknown device, or one that this binary or machine does not
// have (the message says which are there); an attention engine that is not there.
std::unique_ptr<Ops> make_ops(const DeviceOptions& options);
// GPUs that this process sees and that a backend of this binary can use.
int count_gpus();
// Backends compiled into this binary, e.g. {"cpu", "cuda"}, and what `--version` says of each.
std::string describe_backends();

}  // namespace polar

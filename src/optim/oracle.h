// Oracles: what computes the orthogonal factor U of M = U H for batches of equally shaped matrices, through
// the polar operations of ops/ops.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ops/ops.h"
#include "optim/config.h"
#include "optim/group.h"
#include "optim/polynomials.h"
#include "optim/rational.h"

namespace polar {

// A polynomial oracle normalises, X = M / (safety ||M||_F + 1e-7), and then maps every singular value x of X
// by p(x) = a x + b x^3 + c x^5, once a step: X <- a X + (b A + c A^2) X with A = X X^T, or the same from the
// right when X is tall, so that A is always the smaller square.
// For long matrices the same is done in the Gram form, which touches X twice in five steps: see factor_long.
//   newton_schulz  safety 1; the named list, its last entry repeated if there are more steps than entries
//   polar_express  safety 1.01; the recursion for lower_bound, stretched by 1.01 as its authors do, except
//                  where it has converged
// The others work in full precision:
//   qdwh           steps of optim/rational.h, by QR while c > 100 and by Cholesky from then on; with `refine`
//                  then X <- 1.5 X - 0.5 X X^T X, which JAX's qdwh and the PolarGrad authors' end with
//   zolo_pd        two such steps, of the order that the condition number asks for; the first by QR
//   gram_eigh      X (X^T X)^{-1/2} by the eigenvalues of the smaller square; those below s * eps * largest
//   give 0 svd            exact; singular values below s * eps * largest give 0
// No orthogonal factors, but what baselines put in their place; both take vectors too:
//   sign           the sign of every element: with the nuclear scale <sign(M), M> = ||M||_1
//   identity       M itself
// With OracleConfig::preconditioning aol a polynomial oracle multiplies the short side, after normalising,
// with (row sums of |Gram matrix|)^{-1/2}: one step fewer is needed, and the factor is that of the scaled
// matrix (Turbo-Muon, arXiv 2512.04632).
bool takes_vectors(OracleKind kind);
// It is a polynomial oracle and its products may be reduced (OracleConfig::products).
bool takes_reduced_products(const OracleConfig& config);

class Oracle {
 public:
  // Errors (exit code 2): no steps, unknown or empty coefficients, a lower bound outside (0, 1), a condition
  // number of 1 or less.
  explicit Oracle(const OracleConfig& config);

  // Scratch for a batch of `batch` matrices of m x n.
  MatrixScratch::Need need(const Ops& ops, int64_t batch, int64_t m, int64_t n, DType dtype) const;
  // True if `factor` leaves x as it was.
  bool keeps_input() const { return kind_ == OracleKind::svd; }
  // The factors of x (batch, m, n). y: same shape. Returns x or y, whichever holds the result; the other is
  // garbage unless keeps_input(). `scratch` provides the rest.
  Tensor factor(Ops& ops, const Tensor& x, const Tensor& y, const MatrixScratch& scratch) const;

  // FLOPs of one m x n matrix, symmetric products counted at half the work; 0 for svd and gram_eigh.
  double flops(int64_t m, int64_t n) const;

  const std::vector<Quintic>& quintics() const { return quintics_; }  // one a step; of the polynomial kinds
  // Of the rational kinds, for matrices in this format.
  std::vector<QdwhStep> qdwh(DType dtype) const;
  std::vector<ZoloStep> zolo(DType dtype) const;
  std::string text() const { return text_; }  // "polar_express 5"

 private:
  Tensor factor_short(Ops& ops, Tensor from, Tensor to, const MatrixScratch& scratch) const;
  // Iterates on the Gram matrix alone: all P_k = a I + b A_k + c A_k^2 commute with A_0, so that
  // A_{k+1} = P_k A_k P_k and X_{k+1} = (P_k ... P_0) X_0. The singular values of A that drown in its
  // rounding grow by a^2 a step; starting again from X every few steps keeps them small. With q = l / s for
  // the long and short side, five steps cost (6 q + 23) s^3 instead of (15 q + 5) s^3 (Gram Newton-Schulz,
  // Dao-AILab 2026).
  Tensor factor_long(Ops& ops, Tensor from, Tensor to, const MatrixScratch& scratch) const;

  // The Gram matrix of `from`, which the first step's preconditioning scales with `from`.
  void form_gram(Ops& ops, const Tensor& from, const Tensor& gram, const MatrixScratch& scratch,
                 bool first) const;
  bool is_polynomial() const { return !quintics_.empty(); }
  double smallest_value(DType dtype) const;
  void normalize_by_bound(Ops& ops, const Tensor& x) const;
  Tensor factor_qdwh(Ops& ops, Tensor from, Tensor to, const MatrixScratch& scratch) const;
  Tensor factor_zolo(Ops& ops, Tensor from, Tensor to, const MatrixScratch& scratch) const;
  Tensor factor_gram(Ops& ops, const Tensor& x, const Tensor& y, const MatrixScratch& scratch) const;
  double rational_flops(double s, double l) const;

  OracleKind kind_;
  int64_t steps_ = 0;
  double condition_ = 0.0;
  double safety_ = 1.0;
  bool precondition_ = false, refine_ = false, norm_bound_ = false;
  PolarPrecision precision_ = PolarPrecision::full;
  std::vector<Quintic> quintics_;
  std::string text_;
};

}  // namespace polar

// Odd quintic polynomials p(x) = a x + b x^3 + c x^5 that drive singular values towards 1: the published
// lists, and the Remez recursion that computes Polar Express for any lower bound.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace polar {

using Quintic = std::array<double, 3>;  // {a, b, c}

// The list behind a name of `oracle.coefficients`, one polynomial a step. Sources: jordan (K. Jordan, Muon,
// 2024), quintic5 (NVIDIA Emerging-Optimizers' default), classical_quintic and classical_cubic
// (Newton-Schulz). Error (exit code 2) naming the known ones.
std::vector<Quintic> named_quintics(const std::string& name);

// Polar Express (Amsel, Persson, Musco, Gower, arXiv 2505.16932): composed in this order, the polynomials of
// least maximal error |1 - p(x)| on [lower_bound, 1].
struct PolarExpressOptions {
  double lower_bound = 1e-3;  // of the singular values, after normalisation to at most 1
  int64_t steps = 5;
  double cushion = 0.02407327424182761;  // each step assumes values of at least cushion * (largest value)
  // All but the last are stretched by this factor, p(x / safety), so that values up to `safety` are safe; the
  // recursion takes the stretched image into account.
  double safety = 1.0;
};
std::vector<Quintic> polar_express_quintics(const PolarExpressOptions& options);

// p(x / safety): p for inputs up to `safety` times larger.
Quintic stretched(const Quintic& p, double safety);

}  // namespace polar

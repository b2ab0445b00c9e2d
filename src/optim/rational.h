// The weights of the rational polar iterations: QDWH (Nakatsukasa, Bai, Gygi 2010) and ZOLO-PD (Nakatsukasa,
// Freund 2016). Both take singular values in [l, 1] towards 1 by functions that are best for that interval,
// and follow what becomes of l.
#pragma once

#include <cstdint>
#include <vector>

namespace polar {

// One QDWH step: sigma -> sigma (a + b sigma^2) / (1 + c sigma^2), that is
// X <- (b / c) X + (a - b / c) X (I + c X^T X)^{-1}.
struct QdwhStep {
  double a, b, c;
  double l;  // the smallest singular value after it, at least
};
// `steps` of them for 0 < l < 1, or with 0 as many as bring l to 1 - 5 eps, where eps is that of the format
// in which the matrices are.
std::vector<QdwhStep> qdwh_steps(double l, int64_t steps, double eps);

// One ZOLO-PD step: X <- factor (X + sum_j a_j X (X^T X + c_j I)^{-1}).
struct ZoloStep {
  struct Term {
    double a, c;
  };
  std::vector<Term> terms;
  double factor;
  double l;               // as above
  std::vector<double> c;  // all c_1 ... c_2r; those of the terms are c_1, c_3, ...
};
// The order r that two steps need for a condition number.
int64_t zolo_order(double condition);
// Two steps of order r for 0 < l < 1, whose second starts where the first has taken l.
std::vector<ZoloStep> zolo_steps(double l, int64_t order);

}  // namespace polar

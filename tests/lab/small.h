// What the tests of the lab share: small problems and their gradients.
#pragma once

#include <gtest/gtest.h>

#include "lab/run.h"
#include "lab/suite.h"

namespace polar::lab {

inline std::unique_ptr<Ops> make_test_ops() {
  return make_ops({.device = "cpu", .threads = 1});
}

inline std::vector<float> gradient_at(Problem& problem, Ops& ops, std::vector<float> x, int64_t step = 0) {
  std::vector<float> gradients(x.size());
  const Shape flat{static_cast<int64_t>(x.size())};
  problem.gradient({x.data(), DType::f32, flat}, {gradients.data(), DType::f32, flat}, step);
  ops.synchronize();
  return gradients;
}

// The value of a quantity by its key.
inline double value_of(const Problem& problem, const std::vector<float>& at, const std::string& key) {
  const std::vector<double> values = problem.measure(at);
  EXPECT_EQ(values.size(), problem.quantities().size());
  for (size_t i = 0; i < values.size(); ++i)
    if (problem.quantities()[i].key == key) return values[i];
  ADD_FAILURE() << "no quantity " << key;
  return 0.0;
}
inline double gap_at(const Problem& problem, const std::vector<float>& at) {
  return value_of(problem, at, "gap");
}

inline Setting setting_of(const Suite& suite, const std::string& name) {
  for (const Setting& setting : suite.settings)
    if (setting.name == name) return setting;
  ADD_FAILURE() << "no setting " << name;
  return {};
}

inline const Point& point_at(const Result& result, int64_t step) {
  for (const Point& point : result.points)
    if (point.step == step) return point;
  ADD_FAILURE() << "no point at step " << step;
  return result.points.front();
}

// The central difference of the gap along one element; `width` is its half step.
inline double slope_at(const Problem& problem, const std::vector<float>& x, size_t element, float width) {
  std::vector<float> up = x, down = x;
  up[element] += width;
  down[element] -= width;
  const double apart = static_cast<double>(up[element]) - static_cast<double>(down[element]);
  return (gap_at(problem, up) - gap_at(problem, down)) / apart;
}

}  // namespace polar::lab

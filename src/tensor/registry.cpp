#include "tensor/registry.h"

#include <utility>

#include "base/error.h"

namespace polar {

std::string_view name_of(Role role) {
  switch (role) {
    case Role::embedding:
      return "embedding";
    case Role::head:
      return "head";
    case Role::norm:
      return "norm";
    case Role::bias:
      return "bias";
    case Role::matrix:
      break;
  }
  return "matrix";
}

int ParameterRegistry::add(std::string name, Role role, Shape shape, bool joined) {
  if (find(name) >= 0) fail("parameter {} is registered twice", name);
  const int64_t offset = joined ? parameters_.back().offset + parameters_.back().count() : end_;
  parameters_.push_back({std::move(name), role, shape, offset});
  end_ = (offset + shape.count() + kAlignment - 1) / kAlignment * kAlignment;
  return static_cast<int>(parameters_.size()) - 1;
}

int ParameterRegistry::find(std::string_view name) const {
  for (size_t i = 0; i < parameters_.size(); ++i)
    if (parameters_[i].name == name) return static_cast<int>(i);
  return -1;
}

int64_t ParameterRegistry::parameter_count() const {
  int64_t n = 0;
  for (const Parameter& p : parameters_) n += p.count();
  return n;
}

}  // namespace polar

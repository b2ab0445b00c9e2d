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

int ParameterRegistry::add(std::string name, Role role, Shape shape, bool joined, int64_t heads) {
  const auto index = static_cast<int>(parameters_.size());
  if (!indices_.emplace(name, index).second) fail("parameter {} is registered twice", name);
  const int64_t offset = joined ? parameters_.back().offset + parameters_.back().count() : end_;
  parameters_.push_back({std::move(name), role, shape, offset, heads});
  end_ = (offset + shape.count() + kAlignment - 1) / kAlignment * kAlignment;
  return index;
}

int ParameterRegistry::find(std::string_view name) const {
  const auto found = indices_.find(name);
  return found == indices_.end() ? -1 : found->second;
}

int64_t ParameterRegistry::parameter_count() const {
  int64_t n = 0;
  for (const Parameter& p : parameters_) n += p.count();
  return n;
}

}  // namespace polar

#include "checkpoint/parameters.h"

#include <algorithm>
#include <set>

#include "base/error.h"

namespace polar {
namespace {

bool equal_tensors(const TensorSource& source, const std::string& a, const std::string& b) {
  if (!source.contains(b) || source.info(a).shape != source.info(b).shape) return false;
  const Shape shape = source.info(a).shape;
  std::vector<float> left(static_cast<size_t>(shape.count())), right(left.size());
  source.read(a, {left.data(), DType::f32, shape});
  source.read(b, {right.data(), DType::f32, shape});
  return left == right;
}

}  // namespace

std::vector<std::string> mismatches(const TensorSource& source, const ParameterRegistry& registry,
                                    const std::vector<TiedCopy>& copies) {
  std::vector<std::string> lines;
  std::set<std::string> known;
  for (const Parameter& p : registry.parameters()) {
    known.insert(p.name);
    if (!source.contains(p.name))
      lines.push_back(fmt::format("missing: {} {}", p.name, p.shape.text()));
    else if (const Shape found = source.info(p.name).shape; found != p.shape)
      lines.push_back(
          fmt::format("wrong shape: {} is {}, expected {}", p.name, found.text(), p.shape.text()));
  }
  for (const TiedCopy& copy : copies) {
    known.insert(copy.name);
    if (source.contains(copy.name) && !equal_tensors(source, copy.name, copy.original))
      lines.push_back(fmt::format("{} differs from {}, to which it is tied", copy.name, copy.original));
  }
  for (const std::string& name : source.names())
    if (!known.contains(name))
      lines.push_back(fmt::format("unexpected: {} {}", name, source.info(name).shape.text()));
  return lines;
}

void check_parameters(const TensorSource& source, const ParameterRegistry& registry,
                      const std::vector<TiedCopy>& copies) {
  const std::vector<std::string> lines = mismatches(source, registry, copies);
  if (lines.empty()) return;
  constexpr size_t kShown = 20;
  std::string text;
  for (size_t i = 0; i < std::min(lines.size(), kShown); ++i) text += "\n  " + lines[i];
  if (lines.size() > kShown) text += fmt::format("\n  ... and {} more", lines.size() - kShown);
  fail_usage("{}: the tensors do not fit the architecture:{}", source.path().string(), text);
}

void read_parameters(const TensorSource& source, const ParameterRegistry& registry, const Tensor& flat,
                     const std::vector<TiedCopy>& copies) {
  if (flat.dtype != DType::f32 || flat.count() != registry.flat_count())
    fail("reading {} parameters needs a flat f32 buffer of {} elements, got {} {}",
         registry.parameters().size(), registry.flat_count(), name_of(flat.dtype), flat.shape.text());
  check_parameters(source, registry, copies);
  for (size_t i = 0; i < registry.parameters().size(); ++i)
    source.read(registry.parameters()[i].name, registry.view(flat, static_cast<int>(i)));
}

std::vector<NamedTensor> named_parameters(const ParameterRegistry& registry, const Tensor& flat,
                                          const std::string& prefix) {
  std::vector<NamedTensor> named;
  for (size_t i = 0; i < registry.parameters().size(); ++i)
    named.push_back({prefix + registry.parameters()[i].name, registry.view(flat, static_cast<int>(i))});
  return named;
}

}  // namespace polar

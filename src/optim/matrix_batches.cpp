#include "optim/matrix_batches.h"

#include <algorithm>
#include <utility>

namespace polar {
namespace {

constexpr size_t kLargestBatch = 65535;  // matrices that a backend takes at once

}  // namespace

std::vector<MatrixPart> matrix_parts(const std::vector<Member>& members, bool per_head) {
  std::vector<MatrixPart> parts;
  std::vector<std::pair<Shape, Shape>> kinds;  // shape and sides
  for (size_t i = 0; i < members.size(); ++i) {
    const Member& member = members[i];
    const int64_t heads = per_head ? member.heads : 1;
    const Shape sides = member.shape.rank() == 1 ? Shape{1, member.shape[0]}
                                                 : Shape{member.shape[0] / heads, member.shape[1]};
    const Shape shape = member.whole() ? sides : Shape{1, member.count};
    for (int64_t head = 0; head < (member.whole() ? heads : 1); ++head) {
      const int64_t place = head * shape.count();
      parts.push_back({i, shape, sides, member.offset + place, member.gradient + place, member.weight + place,
                       head == 0});
    }
    const std::pair kind(shape, sides);
    if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) kinds.push_back(kind);
  }
  const auto rank_of = [&](const MatrixPart& part) {
    return std::find(kinds.begin(), kinds.end(), std::pair(part.shape, part.sides)) - kinds.begin();
  };
  std::stable_sort(parts.begin(), parts.end(),
                   [&](const MatrixPart& a, const MatrixPart& b) { return rank_of(a) < rank_of(b); });
  return parts;
}

std::vector<MatrixBatch> matrix_batches(const std::vector<MatrixPart>& parts, size_t element_bytes,
                                        int64_t max_bytes) {
  std::vector<MatrixBatch> batches;
  int64_t state_offset = 0, neuron_offset = 0;
  for (size_t begin = 0; begin < parts.size();) {
    const Shape& shape = parts[begin].shape;
    const int64_t bytes = shape.count() * static_cast<int64_t>(element_bytes);
    const auto limit = std::min(kLargestBatch, static_cast<size_t>(std::max<int64_t>(1, max_bytes / bytes)));
    size_t end = begin;
    while (end < parts.size() && end - begin < limit && parts[end].shape == shape &&
           parts[end].sides == parts[begin].sides)
      ++end;
    const auto count = static_cast<int64_t>(end - begin);
    batches.push_back({begin, end, state_offset, neuron_offset, {count, shape[0], shape[1]}});
    state_offset += batches.back().shape.count();
    neuron_offset += batches.back().neurons();
    begin = end;
  }
  return batches;
}

}  // namespace polar

#include "tensor/memory_plan.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace polar {
namespace {

size_t padded(size_t bytes) {
  return (bytes + MemoryPlan::kAlignment - 1) / MemoryPlan::kAlignment * MemoryPlan::kAlignment;
}

}  // namespace

BufferId MemoryPlan::add(std::string category, std::string name, DType dtype, Shape shape) {
  const size_t bytes = static_cast<size_t>(shape.count()) * size_of(dtype);
  entries_.push_back({std::move(category), std::move(name), dtype, shape, total_, bytes});
  total_ += padded(bytes);
  return {static_cast<int>(entries_.size()) - 1};
}

size_t MemoryPlan::category_bytes(const std::string& category) const {
  size_t sum = 0;
  for (const Entry& e : entries_)
    if (e.category == category) sum += padded(e.bytes);
  return sum;
}

std::string MemoryPlan::table(bool every_buffer) const {
  std::vector<std::string> categories;  // in order of first appearance
  for (const Entry& e : entries_)
    if (std::find(categories.begin(), categories.end(), e.category) == categories.end())
      categories.push_back(e.category);
  std::string out = fmt::format("{:<14} {:>16} {:>12} {:>7}\n", "memory", "bytes", "", "share");
  for (const std::string& category : categories) {
    const size_t bytes = category_bytes(category);
    out += fmt::format("{:<14} {:>16} {:>12} {:>6.1f}%\n", category, bytes, format_bytes(bytes),
                       100.0 * static_cast<double>(bytes) / static_cast<double>(std::max<size_t>(total_, 1)));
    if (!every_buffer) continue;
    for (const Entry& e : entries_)
      if (e.category == category)
        out += fmt::format("  {:<40} {:<5} {:<24} {:>16}\n", e.name, name_of(e.dtype), e.shape.text(),
                           padded(e.bytes));
  }
  out += fmt::format("{:<14} {:>16} {:>12} {:>6.1f}%\n", "total", total_, format_bytes(total_), 100.0);
  return out;
}

Tensor Arena::operator[](BufferId id) const {
  if (!id) return {};
  const MemoryPlan::Entry& e = plan_->entry(id);
  return {base_ + e.offset, e.dtype, e.shape};
}

std::string format_bytes(size_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  for (; value >= 1024.0 && unit < 4; ++unit) value /= 1024.0;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace polar

#include "plan/gradient_layout.h"

#include <algorithm>

namespace polar {
namespace {

int64_t aligned(int64_t elements) {
  constexpr int64_t kAlignment = ParameterRegistry::kAlignment;
  return (elements + kAlignment - 1) / kAlignment * kAlignment;
}

// Parameters that have to lie together, all of them in the order of the registry.
std::vector<std::vector<int>> runs_of(const Model& model) {
  const auto count = static_cast<int>(model.registry().parameters().size());
  std::vector<std::vector<int>> first_of(static_cast<size_t>(count));
  std::vector<bool> follows(static_cast<size_t>(count));
  for (const std::vector<int>& joined : model.joined_parameters()) {
    first_of[static_cast<size_t>(joined.front())] = joined;
    for (size_t i = 1; i < joined.size(); ++i) follows[static_cast<size_t>(joined[i])] = true;
  }
  std::vector<std::vector<int>> runs;
  for (int i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(i);
    if (!follows[at]) runs.push_back(first_of[at].empty() ? std::vector{i} : first_of[at]);
  }
  return runs;
}

// The matrix bucket of each parameter; -1: cut by element.
std::vector<int> buckets_of(const Model& model, const ShardPlan& shards) {
  std::vector<int> buckets(model.registry().parameters().size(), -1);
  for (size_t b = 0; b < shards.matrix_buckets(); ++b)
    for (const Bucket::Piece& piece : shards.buckets()[b].pieces)
      buckets[static_cast<size_t>(piece.parameter)] = static_cast<int>(b);
  return buckets;
}

}  // namespace

GradientLayout one_bucket_layout(const Model& model, const ShardPlan& shards) {
  const ParameterRegistry& registry = model.registry();
  const std::vector<int> buckets = buckets_of(model, shards);
  GradientLayout layout;
  layout.offsets.resize(buckets.size());
  const auto shares_window = [&](const std::vector<int>& run) {
    return std::all_of(run.begin(), run.end(), [&](int i) {
      return buckets[static_cast<size_t>(i)] >= 0 && layer_of(registry[i].name) >= 0;
    });
  };
  const auto place = [&](const std::vector<int>& run, int64_t& end) {
    for (const int i : run) {
      layout.offsets[static_cast<size_t>(i)] = end;
      end += registry[i].count();
    }
    end = aligned(end);
  };
  const std::vector<std::vector<int>> runs = runs_of(model);
  std::vector<int64_t> ends(shards.matrix_buckets());
  for (const std::vector<int>& run : runs)
    if (shares_window(run)) place(run, ends[static_cast<size_t>(buckets[static_cast<size_t>(run.front())])]);
  for (const int64_t end : ends) layout.window = std::max(layout.window, end);
  layout.count = layout.window;
  for (const std::vector<int>& run : runs)
    if (!shares_window(run)) place(run, layout.count);
  return layout;
}

}  // namespace polar

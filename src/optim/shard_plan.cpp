#include "optim/shard_plan.h"

#include <xxhash.h>

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <tuple>
#include <utility>

#include "base/error.h"

namespace polar {
namespace {

int64_t aligned(int64_t elements) {
  constexpr int64_t kAlignment = ParameterRegistry::kAlignment;
  return (elements + kAlignment - 1) / kAlignment * kAlignment;
}

double largest_over_mean(const std::vector<double>& loads) {
  const double sum = std::accumulate(loads.begin(), loads.end(), 0.0);
  const double largest = *std::max_element(loads.begin(), loads.end());
  return sum == 0.0 ? 1.0 : largest * static_cast<double>(loads.size()) / sum;
}

// One bucket's matrices, given to ranks.
struct Assignment {
  std::vector<int> owners;        // of each matrix
  std::vector<int64_t> elements;  // of each rank
  std::vector<double> loads;      // of each rank, those of the buckets before included
  int64_t part() const { return *std::max_element(elements.begin(), elements.end()); }
};

// The least loaded rank whose part stays within `slack` times the mean (or the largest matrix); where none
// does, the one of the smallest part. A small slack is for little padding, a large one for equal loads.
Assignment assign(const ParameterRegistry& registry, const std::vector<double>& costs,
                  const std::vector<int>& matrices, std::vector<double> loads, double slack) {
  const size_t ranks = loads.size();
  const auto cost = [&](size_t i) { return costs[static_cast<size_t>(matrices[i])]; };
  std::vector<size_t> order(matrices.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return cost(a) > cost(b); });
  int64_t total = 0, largest = 0;
  for (const int index : matrices) {
    total += aligned(registry[index].count());
    largest = std::max(largest, aligned(registry[index].count()));
  }
  const double limit =
      std::max(slack * static_cast<double>(total) / static_cast<double>(ranks), static_cast<double>(largest));
  Assignment out{std::vector<int>(matrices.size()), std::vector<int64_t>(ranks), std::move(loads)};
  for (const size_t i : order) {
    const int64_t count = aligned(registry[matrices[i]].count());
    const auto key = [&](size_t rank) {
      const bool fits = static_cast<double>(out.elements[rank] + count) <= limit;
      const auto elements = static_cast<double>(out.elements[rank]);
      return fits ? std::tuple(0, out.loads[rank], elements) : std::tuple(1, elements, out.loads[rank]);
    };
    size_t owner = 0;
    for (size_t rank = 1; rank < ranks; ++rank)
      if (key(rank) < key(owner)) owner = rank;
    out.owners[i] = static_cast<int>(owner);
    out.elements[owner] += count;
    out.loads[owner] += cost(i);
  }
  return out;
}

// All buckets for a number of layers a bucket and a slack, and what that comes to.
struct Division {
  std::vector<Assignment> buckets;
  double padding = 1.0, imbalance = 1.0;
};

Division divide(const ParameterRegistry& registry, const std::vector<double>& costs,
                const std::vector<std::vector<int>>& groups, const ShardOptions& options, double slack) {
  Division out;
  std::vector<double> loads(static_cast<size_t>(options.world_size));
  int64_t sent = 0, needed = 0;
  for (const std::vector<int>& matrices : groups) {
    out.buckets.push_back(assign(registry, costs, matrices, loads, slack));
    loads = out.buckets.back().loads;
    sent += options.world_size * out.buckets.back().part();
    for (const int index : matrices) needed += registry[index].count();
  }
  out.padding = needed == 0 ? 1.0 : static_cast<double>(sent) / static_cast<double>(needed);
  out.imbalance = largest_over_mean(loads);
  return out;
}

// Of several slacks the one of least imbalance with little enough padding, else the one of least padding.
Division best_division(const ParameterRegistry& registry, const std::vector<double>& costs,
                       const std::vector<std::vector<int>>& groups, const ShardOptions& options) {
  std::optional<Division> best;
  const auto key = [&](const Division& d) {
    const bool enough = d.padding <= options.max_padding;
    return enough ? std::tuple(0, d.imbalance, d.padding) : std::tuple(1, d.padding, d.imbalance);
  };
  for (const double slack : {1e9, 1.15, 1.05, 1.0}) {
    Division division = divide(registry, costs, groups, options, slack);
    if (!best || key(division) < key(*best)) best = std::move(division);
  }
  return *best;
}

}  // namespace

int64_t layer_of(const std::string& name) {
  constexpr std::string_view kBefore = "layers.";
  const size_t begin = name.find(kBefore);
  if (begin == std::string::npos) return -1;
  int64_t layer = -1;
  for (size_t i = begin + kBefore.size(); i < name.size() && name[i] >= '0' && name[i] <= '9'; ++i)
    layer = 10 * std::max<int64_t>(layer, 0) + (name[i] - '0');
  return layer;
}

// Matrices by layer, the last layer first; those of no layer with the first layer.
struct ShardPlan::Layered {
  std::vector<int64_t> numbers;
  std::vector<std::vector<int>> matrices;

  std::vector<std::vector<int>> grouped(int64_t layers) const {
    std::vector<std::vector<int>> groups;
    for (size_t i = 0; i < matrices.size(); ++i) {
      if (static_cast<int64_t>(i) % layers == 0) groups.emplace_back();
      groups.back().insert(groups.back().end(), matrices[i].begin(), matrices[i].end());
    }
    return groups;
  }
};

ShardPlan::ShardPlan(const ParameterRegistry& registry, std::vector<double> costs,
                     const ShardOptions& options)
    : registry_(registry), costs_(std::move(costs)), options_(options) {
  if (options.world_size < 1) fail_usage("sharding over {} ranks: expected at least 1", options.world_size);
  std::map<int64_t, std::vector<int>, std::greater<>> layers;
  std::vector<int> elements, head;
  for (int i = 0; i < static_cast<int>(registry.parameters().size()); ++i)
    if (costs_[static_cast<size_t>(i)] > 0.0)
      layers[std::max<int64_t>(layer_of(registry[i].name), 0)].push_back(i);
    else
      (registry[i].role == Role::head ? head : elements).push_back(i);
  Layered layered;
  for (auto& [number, matrices] : layers) {
    layered.numbers.push_back(number);
    layered.matrices.push_back(std::move(matrices));
  }
  loads_.resize(static_cast<size_t>(options.world_size));
  if (!layered.matrices.empty()) {
    layers_per_bucket_ = options.layers_per_bucket;
    if (layers_per_bucket_ <= 0) choose_layers(layered);
    add_matrices(layered, layers_per_bucket_);
  }
  matrix_buckets_ = buckets_.size();
  add_elements("head", head);
  add_elements("element-wise parameters", elements);
}

void ShardPlan::choose_layers(const Layered& layered) {
  const auto layers = static_cast<int64_t>(layered.matrices.size());
  const double least = divide(registry_, costs_, layered.grouped(layers), options_, 1e9).imbalance;
  // Enough padding and nearly the best balance there is; enough padding; the least.
  int64_t padded = 0, best = 1;
  double best_padding = std::numeric_limits<double>::infinity();
  for (int64_t k = 1; k <= std::max<int64_t>(layers / 2, 1); ++k) {
    const Division division = best_division(registry_, costs_, layered.grouped(k), options_);
    if (division.padding < best_padding) {
      best_padding = division.padding;
      best = k;
    }
    if (division.padding > options_.max_padding) continue;
    if (padded == 0) padded = k;
    if (division.imbalance <= 1.02 * least) {
      layers_per_bucket_ = k;
      return;
    }
  }
  layers_per_bucket_ = padded > 0 ? padded : best;
}

void ShardPlan::add_matrices(const Layered& layered, int64_t layers_per_bucket) {
  const std::vector<std::vector<int>> groups = layered.grouped(layers_per_bucket);
  const Division division = best_division(registry_, costs_, groups, options_);
  for (size_t b = 0; b < groups.size(); ++b) {
    const size_t first = b * static_cast<size_t>(layers_per_bucket);
    const size_t last = std::min(first + static_cast<size_t>(layers_per_bucket), layered.numbers.size()) - 1;
    Bucket bucket;
    bucket.name = first == last ? fmt::format("layer {}", layered.numbers[first])
                                : fmt::format("layers {}-{}", layered.numbers[last], layered.numbers[first]);
    bucket.part = division.buckets[b].part();
    std::vector<int64_t> filled(loads_.size());
    for (size_t i = 0; i < groups[b].size(); ++i) {
      const int owner = division.buckets[b].owners[i];
      const int64_t count = registry_[groups[b][i]].count();
      int64_t& position = filled[static_cast<size_t>(owner)];
      bucket.pieces.push_back({groups[b][i], 0, count, owner, position});
      position += aligned(count);
    }
    buckets_.push_back(std::move(bucket));
    loads_ = division.buckets[b].loads;
  }
}

// The parameters end to end, cut into equal parts.
void ShardPlan::add_elements(std::string name, const std::vector<int>& elements) {
  if (elements.empty()) return;
  int64_t total = 0;
  for (const int index : elements) total += aligned(registry_[index].count());
  Bucket bucket;
  bucket.name = std::move(name);
  bucket.part = aligned((total + options_.world_size - 1) / options_.world_size);
  int64_t at = 0;  // of all parts laid end to end; a multiple of the alignment where a parameter begins
  for (const int index : elements) {
    const int64_t count = registry_[index].count();
    for (int64_t begin = 0; begin < count;) {
      const int64_t position = at % bucket.part, taken = std::min(count - begin, bucket.part - position);
      bucket.pieces.push_back({index, begin, taken, static_cast<int>(at / bucket.part), position});
      begin += taken;
      at += taken;
    }
    at = aligned(at);
  }
  buckets_.push_back(std::move(bucket));
}

int ShardPlan::writer(int parameter) const {
  for (const Bucket& bucket : buckets_)
    for (const Bucket::Piece& piece : bucket.pieces)
      if (piece.parameter == parameter && piece.begin == 0) return piece.owner;
  fail("sharding: parameter {} is in no bucket", parameter);
}

int64_t ShardPlan::own_offset(size_t bucket) const {
  int64_t offset = 0;
  for (size_t b = 0; b < bucket; ++b) offset += buckets_[b].part;
  return offset;
}

double ShardPlan::padding() const {
  int64_t sent = 0, needed = 0;
  for (size_t b = 0; b < matrix_buckets_; ++b) {
    sent += options_.world_size * buckets_[b].part;
    for (const Bucket::Piece& piece : buckets_[b].pieces) needed += piece.count;
  }
  return needed == 0 ? 1.0 : static_cast<double>(sent) / static_cast<double>(needed);
}

double ShardPlan::imbalance() const {
  return largest_over_mean(loads_);
}

int64_t ShardPlan::elements_sent() const {
  return 2 * (options_.world_size - 1) * own_elements();
}

uint64_t ShardPlan::hash() const {
  std::string text = fmt::format("{}", options_.world_size);
  for (const Bucket& bucket : buckets_) {
    text += fmt::format(";{} {}", bucket.name, bucket.part);
    for (const Bucket::Piece& p : bucket.pieces)
      text +=
          fmt::format(",{} {} {} {} {}", registry_[p.parameter].name, p.begin, p.count, p.owner, p.position);
  }
  return XXH3_64bits(text.data(), text.size());
}

std::string ShardPlan::table() const {
  std::string out =
      fmt::format("{:<28} {:>9} {:>16} {:>9}\n", "bucket", "pieces", "elements a part", "padding");
  std::vector<int64_t> matrices(loads_.size()), elements(loads_.size());
  for (size_t b = 0; b < buckets_.size(); ++b) {
    const Bucket& bucket = buckets_[b];
    int64_t needed = 0;
    for (const Bucket::Piece& piece : bucket.pieces) {
      const auto owner = static_cast<size_t>(piece.owner);
      needed += piece.count;
      matrices[owner] += b < matrix_buckets_ ? 1 : 0;
      elements[owner] += piece.count;
    }
    out += fmt::format("{:<28} {:>9} {:>16} {:>9.3f}\n", bucket.name, bucket.pieces.size(), bucket.part,
                       static_cast<double>(options_.world_size * bucket.part) / static_cast<double>(needed));
  }
  const double mean = std::accumulate(loads_.begin(), loads_.end(), 0.0) / static_cast<double>(loads_.size());
  out += fmt::format("\n{:<6} {:>9} {:>16} {:>12}\n", "rank", "matrices", "elements", "load");
  for (size_t rank = 0; rank < loads_.size(); ++rank)
    out += fmt::format("{:<6} {:>9} {:>16} {:>12.3f}\n", rank, matrices[rank], elements[rank],
                       mean == 0.0 ? 1.0 : loads_[rank] / mean);
  return out;
}

}  // namespace polar

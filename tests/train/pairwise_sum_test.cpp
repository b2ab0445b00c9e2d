// Gradients of micro-batches summed as a tree: by one rank, or by several and then over the ranks.
#include "train/pairwise_sum.h"

#include <gtest/gtest.h>

#include <bit>
#include <random>

#include "ops/ops.h"

namespace polar::test {
namespace {

constexpr int64_t kCount = 50;  // elements of a summand

using Values = std::vector<float>;

class PairwiseSumTest : public testing::Test {
 protected:
  static std::vector<Values> random(int64_t n, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    std::vector<Values> all(static_cast<size_t>(n), Values(kCount));
    for (Values& values : all)
      for (float& v : values) v = normal(engine);
    return all;
  }
  static Tensor tensor(Values& values) { return {values.data(), DType::f32, {std::ssize(values)}}; }

  // What `summands` come to in the buffer of a rank.
  Values sum(const std::vector<Values>& summands) {
    const int64_t n = std::ssize(summands);
    Values buffer(kCount);
    std::vector<Values> levels(std::bit_width(static_cast<uint64_t>(n - 1)), Values(kCount, 1e9F));
    std::vector<Tensor> tensors;
    for (Values& level : levels) tensors.push_back(tensor(level));
    const PairwiseSum pairs(*ops_, tensor(buffer), std::move(tensors));
    for (int64_t i = 0; i < n; ++i) {
      buffer = summands[static_cast<size_t>(i)];
      // In two parts: as the buckets of a rank come by.
      pairs.add(tensor(buffer).slice(20, {kCount - 20}), i, n);
      pairs.add(tensor(buffer).slice(0, {20}), i, n);
    }
    return buffer;
  }
  Values sum_rows(const std::vector<Values>& rows) {
    Values all;
    for (const Values& row : rows) all.insert(all.end(), row.begin(), row.end());
    PairwiseSum::sum_rows(*ops_, {all.data(), DType::f32, {std::ssize(rows), kCount}});
    all.resize(kCount);
    return all;
  }
  // In the words of the header, level by level.
  static Values tree(std::vector<Values> nodes) {
    while (nodes.size() > 1) {
      std::vector<Values> above;
      for (size_t i = 0; i < nodes.size(); i += 2) {
        above.push_back(nodes[i]);
        if (i + 1 < nodes.size())
          for (size_t k = 0; k < kCount; ++k) above.back()[k] += nodes[i + 1][k];
      }
      nodes = std::move(above);
    }
    return nodes.front();
  }

  // The sum of every `size` summands in a row.
  template <class Sum>
  static std::vector<Values> by_groups(const std::vector<Values>& all, int64_t size, const Sum& sum_of) {
    std::vector<Values> sums;
    for (auto first = all.begin(); first != all.end(); first += size)
      sums.push_back(sum_of({first, first + size}));
    return sums;
  }

  std::unique_ptr<Ops> ops_ = make_ops({.device = "cpu", .threads = 1});
};

TEST_F(PairwiseSumTest, IsTheTree) {
  for (int64_t n = 1; n <= 33; ++n) {
    const std::vector<Values> summands = random(n, static_cast<unsigned>(n));
    EXPECT_EQ(sum(summands), tree(summands)) << n;
    EXPECT_EQ(sum_rows(summands), tree(summands)) << n;
  }
}

TEST_F(PairwiseSumTest, RanksComeToTheSameBits) {
  const auto own = [this](const std::vector<Values>& summands) { return sum(summands); };
  const auto over_ranks = [this](const std::vector<Values>& rows) { return sum_rows(rows); };
  for (const int64_t micro_steps : {1, 2, 4, 8})
    for (const int64_t ranks : {1, 2, 3, 5, 8}) {
      const std::vector<Values> all = random(micro_steps * ranks, 7);
      EXPECT_EQ(over_ranks(by_groups(all, micro_steps, own)), tree(all))
          << micro_steps << " of each of " << ranks;
    }
  // Ranks that take turns: first over the ranks, then over what each has one after the other.
  for (const int64_t ranks : {1, 2, 4, 8})
    for (const int64_t micro_steps : {1, 2, 3, 5, 8}) {
      const std::vector<Values> all = random(micro_steps * ranks, 8);
      EXPECT_EQ(own(by_groups(all, ranks, over_ranks)), tree(all)) << micro_steps << " rounds of " << ranks;
    }
}

// What makes it worth the while.
TEST_F(PairwiseSumTest, OneAfterTheOtherIsNotTheTree) {
  const std::vector<Values> all = random(8, 9);
  Values running(kCount);
  for (const Values& values : all)
    for (size_t k = 0; k < kCount; ++k) running[k] += values[k];
  EXPECT_NE(running, tree(all));
}

TEST_F(PairwiseSumTest, TooFewLevelsAreAnError) {
  Values buffer(kCount);
  const PairwiseSum pairs(*ops_, tensor(buffer), {});
  EXPECT_THROW(pairs.add(tensor(buffer), 0, 2), std::runtime_error);
}

}  // namespace
}  // namespace polar::test

// The choice of the next token: limits, ties, frequencies, reproducibility.
#include "eval/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <vector>

#include "base/error.h"

namespace polar::test {
namespace {

const std::vector<float> kLogits{1.0f, 3.0f, -2.0f, 2.0f, 3.0f, 0.0f};

std::map<int32_t, double> frequencies(const SamplingOptions& options, int draws) {
  Sampler sampler(options, static_cast<int64_t>(kLogits.size()));
  std::map<int32_t, double> share;
  for (int i = 0; i < draws; ++i) share[sampler.choose(kLogits, static_cast<uint64_t>(i))] += 1.0 / draws;
  return share;
}

TEST(Sampler, TemperatureZeroTakesTheFirstOfTheMostLikely) {
  SamplingOptions options;
  options.temperature = 0.0;
  EXPECT_EQ(Sampler(options, 6).choose(kLogits, 0), 1);
}

// 20,000 draws: a share's standard deviation is below 0.0036; five of them.
TEST(Sampler, FollowsTheSoftmax) {
  for (const double temperature : {0.5, 1.0, 2.0}) {
    SamplingOptions options;
    options.temperature = temperature;
    double total = 0.0;
    for (const float x : kLogits) total += std::exp(x / temperature);
    const auto share = frequencies(options, 20'000);
    for (size_t i = 0; i < kLogits.size(); ++i) {
      const auto found = share.find(static_cast<int32_t>(i));
      EXPECT_NEAR(found == share.end() ? 0.0 : found->second, std::exp(kLogits[i] / temperature) / total,
                  0.018);
    }
  }
}

TEST(Sampler, TopKKeepsTheKMostLikely) {
  SamplingOptions options;
  options.temperature = 5.0;
  options.top_k = 3;
  const auto share = frequencies(options, 2000);
  ASSERT_EQ(share.size(), 3u);
  for (const int32_t id : {1, 3, 4}) EXPECT_TRUE(share.contains(id));
  options.top_k = 1000;  // more than there are
  EXPECT_EQ(frequencies(options, 20'000).size(), 6u);
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesP) {
  SamplingOptions options;
  options.temperature = 1.0;
  options.top_p = 0.5;  // the two likeliest have 0.38 each
  auto share = frequencies(options, 2000);
  ASSERT_EQ(share.size(), 2u);
  EXPECT_TRUE(share.contains(1) && share.contains(4));
  options.top_p = 1e-9;  // never fewer than one
  EXPECT_EQ(frequencies(options, 100).size(), 1u);
}

TEST(Sampler, IdsBehindTheCandidatesAreNeverDrawn) {
  std::vector<float> padded = kLogits;
  padded.push_back(100.0f);  // a padded row of the head, however likely
  padded.push_back(std::nanf(""));
  for (const double temperature : {0.0, 1.0}) {
    SamplingOptions options;
    options.temperature = temperature;
    Sampler with_padding(options, 6), without(options, 6);
    for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ(with_padding.choose(padded, i), without.choose(kLogits, i));
  }
}

TEST(Sampler, SoftcapIsCTanhXOverC) {
  std::vector<float> logits = kLogits;
  apply_softcap(logits, 0.0);
  EXPECT_EQ(logits, kLogits);
  apply_softcap(logits, 2.0);
  for (size_t i = 0; i < logits.size(); ++i) EXPECT_NEAR(logits[i], 2.0 * std::tanh(kLogits[i] / 2.0), 1e-6);
}

TEST(Sampler, IsAFunctionOfSeedAndIndex) {
  SamplingOptions options;
  options.seed = 7;
  Sampler a(options, 6), b(options, 6);
  for (uint64_t i = 100; i-- > 0;) EXPECT_EQ(a.choose(kLogits, i), b.choose(kLogits, i));
  options.seed = 8;
  Sampler c(options, 6);
  int equal = 0;
  for (uint64_t i = 0; i < 100; ++i) equal += a.choose(kLogits, i) == c.choose(kLogits, i) ? 1 : 0;
  EXPECT_LT(equal, 100);
}

TEST(Sampler, RefusesBadOptionsAndBrokenLogits) {
  const auto refused = [](double temperature, int64_t top_k, double top_p) {
    SamplingOptions options{temperature, top_k, top_p, 0};
    try {
      check_sampling(options);
    } catch (const Error& e) {
      return e.code() == ExitCode::bad_usage;
    }
    return false;
  };
  EXPECT_TRUE(refused(-0.1, 0, 1.0));
  EXPECT_TRUE(refused(std::numeric_limits<double>::infinity(), 0, 1.0));
  EXPECT_TRUE(refused(1.0, -1, 1.0));
  EXPECT_TRUE(refused(1.0, 0, 0.0));
  EXPECT_TRUE(refused(1.0, 0, 1.01));
  EXPECT_TRUE(refused(1.0, 0, std::nan("")));
  EXPECT_FALSE(refused(0.0, 0, 1.0));
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()})
    for (size_t place = 0; place < kLogits.size(); ++place) {
      std::vector<float> broken = kLogits;
      broken[place] = bad;
      EXPECT_THROW(Sampler({}, 6).choose(broken, 0), Error) << place;
    }
}

}  // namespace
}  // namespace polar::test

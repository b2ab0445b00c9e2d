// Steps whose times are worked out by hand, and what holds for every step.
#include "plan/timeline.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "config/hardware.h"
#include "plan/step_cost.h"

namespace polar::test {
namespace {

TEST(Timeline, OneRankOnlyComputes) {
  const Timeline t = run_timeline({.stages = {1, 2, 3}, .micro_steps = 2, .buckets = {}, .update = 4});
  EXPECT_DOUBLE_EQ(t.step, 16.0);
  EXPECT_DOUBLE_EQ(t.compute, 16.0);
  EXPECT_DOUBLE_EQ(t.exposed(), 0.0);
}

// Weights on the link 0-4, gradients set to zero until 0.75, stage 0 until 1.75, waits until 4, stage 1 until
// 6; gradients 6-11, stage 2 until 9, waits until 11.
TEST(Timeline, OneBucket) {
  const StepTimes times{
      .stages = {1, 2, 3},
      .buckets = {{.reduce_scatter = 5, .all_gather = 4, .first_use = 1, .last_gradient = 1}},
      .begin = 0.75,
      .scalars = 0.5,
      .update = 10};
  const Timeline t = run_timeline(times);
  EXPECT_DOUBLE_EQ(t.exposed_weights, 2.25);
  EXPECT_DOUBLE_EQ(t.exposed_gradients, 2.0);
  EXPECT_DOUBLE_EQ(t.exposed_scalars, 0.5);
  EXPECT_DOUBLE_EQ(t.compute, 16.75);
  EXPECT_DOUBLE_EQ(t.step, 21.5);
  EXPECT_DOUBLE_EQ(t.reduce_scatter, 5.0);
  EXPECT_DOUBLE_EQ(t.all_gather, 4.0);
}

// The embedding, two layers, the loss, two layers back. Weights of layer 0 travel 0-3, of layer 1 3-5: it
// waits from 1 to 3 and from 4.25 to 5. Gradients of layer 1 set out at 10.75 and travel until 14.75, those
// of layer 0, ready at 13.25, until 15.75.
TEST(Timeline, TwoBuckets) {
  const BucketTimes layer1{.reduce_scatter = 4,
                           .all_gather = 2,
                           .pack_gradients = 0.5,
                           .unpack_weights = 0.25,
                           .first_use = 2,
                           .last_gradient = 4};
  BucketTimes layer0 = layer1;
  layer0.reduce_scatter = 1;
  layer0.all_gather = 3;
  layer0.first_use = 1;
  layer0.last_gradient = 5;
  const Timeline t = run_timeline({.stages = {1, 1, 1, 2, 2, 2}, .buckets = {layer1, layer0}, .update = 3});
  EXPECT_DOUBLE_EQ(t.exposed_weights, 2.75);
  EXPECT_DOUBLE_EQ(t.exposed_gradients, 2.5);
  EXPECT_DOUBLE_EQ(t.compute, 13.5);
  EXPECT_DOUBLE_EQ(t.step, 18.75);
}

// Slow to compute: all but the last bucket's journey is hidden, and it too if stages follow.
TEST(Timeline, ComputeBound) {
  const BucketTimes early{.reduce_scatter = 1, .all_gather = 1, .first_use = 1, .last_gradient = 2};
  BucketTimes late = early;
  late.last_gradient = 3;
  StepTimes times{.stages = {10, 10, 10, 10}, .buckets = {early, late}, .update = 0};
  EXPECT_DOUBLE_EQ(run_timeline(times).exposed(), 1.0);
  times.buckets[1].last_gradient = 2;
  EXPECT_DOUBLE_EQ(run_timeline(times).exposed(), 0.0);
  EXPECT_DOUBLE_EQ(run_timeline(times).step, 40.0);
}

// The link is never idle from the first gradients on: the step ends when it is done.
TEST(Timeline, LinkBound) {
  StepTimes times{.stages = {1, 1, 1, 1}, .buckets = {}};
  for (const size_t stage : {1, 2, 3})
    times.buckets.push_back({.reduce_scatter = 10, .first_use = 0, .last_gradient = stage});
  const Timeline t = run_timeline(times);
  EXPECT_DOUBLE_EQ(t.step, 2.0 + 30.0);
  EXPECT_DOUBLE_EQ(t.exposed_gradients, 28.0);
}

// With two buffers the third bucket's gradients, and what is computed after them, wait for the first to
// arrive.
TEST(Timeline, NoMoreBucketsThanBuffersAreOnTheirWay) {
  StepTimes times{.stages = {1, 1, 1, 1, 5}, .buckets = {}};
  const double travel[] = {10, 1, 1};
  for (const size_t b : {0, 1, 2})
    times.buckets.push_back({.reduce_scatter = travel[b], .first_use = 0, .last_gradient = b + 1});
  EXPECT_DOUBLE_EQ(run_timeline(times).step, 17.0);
  times.buffers = 3;
  EXPECT_DOUBLE_EQ(run_timeline(times).step, 14.0);
}

TEST(Timeline, GradientsTravelOnceAStepOrInEveryMicroBatch) {
  StepTimes times{.stages = {1, 2},
                  .micro_steps = 3,
                  .buckets = {{.reduce_scatter = 4, .all_gather = 2, .first_use = 0, .last_gradient = 1}}};
  const Timeline once = run_timeline(times);
  EXPECT_DOUBLE_EQ(once.step, 2.0 + 9.0 + 4.0);
  EXPECT_DOUBLE_EQ(once.reduce_scatter, 4.0);
  times.reduce_every_micro_step = true;
  const Timeline every = run_timeline(times);
  EXPECT_DOUBLE_EQ(every.reduce_scatter, 12.0);
  EXPECT_DOUBLE_EQ(every.all_gather, 2.0);
  // 4 s on the link beside 3 s of the next micro-batch each, and at the end alone; one buffer is free
  // meanwhile.
  EXPECT_DOUBLE_EQ(every.step, 2.0 + 3.0 + 12.0);
}

TEST(Timeline, WithoutOverlapTimesAddUp) {
  const BucketTimes a{.reduce_scatter = 5, .all_gather = 4, .first_use = 1, .last_gradient = 1};
  const Timeline t = run_timeline({.stages = {1, 2, 3},
                                   .micro_steps = 2,
                                   .buckets = {a, a},
                                   .scalars = 0.5,
                                   .update = 10,
                                   .overlap = false});
  EXPECT_DOUBLE_EQ(t.step, 2 * 6 + 2 * 9 + 0.5 + 10);
  EXPECT_DOUBLE_EQ(t.exposed(), 18.5);
}

StepTimes random_times(uint64_t seed) {
  uint64_t count = 0;
  const auto uniform = [&](double high) { return high * random_uniform(seed, 7, count++); };
  StepTimes times;
  const auto stages = static_cast<size_t>(2 + uniform(8));
  for (size_t i = 0; i < stages; ++i) times.stages.push_back(uniform(2));
  times.micro_steps = 1 + static_cast<int64_t>(uniform(3));
  const auto buckets = static_cast<size_t>(1 + uniform(6));
  const double link = uniform(3);
  for (size_t b = 0; b < buckets; ++b)
    times.buckets.push_back({.reduce_scatter = link * uniform(1),
                             .all_gather = link * uniform(1),
                             .pack_gradients = uniform(0.1),
                             .unpack_weights = uniform(0.1),
                             .first_use = static_cast<size_t>(uniform(static_cast<double>(stages))),
                             .last_gradient = static_cast<size_t>(uniform(static_cast<double>(stages)))});
  times.scalars = uniform(0.1);
  times.update = uniform(1);
  return times;
}

TEST(Timeline, WhatHoldsForEveryStep) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    StepTimes times = random_times(seed);
    const Timeline t = run_timeline(times);
    const double slack = 1e-9;
    ASSERT_NEAR(t.step, t.compute + t.exposed(), slack);
    ASSERT_GE(t.step + slack, t.reduce_scatter + t.all_gather + t.exposed_scalars);
    ASSERT_LE(t.step, t.compute + t.reduce_scatter + t.all_gather + times.scalars + slack);
    // An infinitely fast link.
    StepTimes fast = times;
    fast.scalars = 0.0;
    for (BucketTimes& bucket : fast.buckets) bucket.reduce_scatter = bucket.all_gather = 0.0;
    const Timeline free = run_timeline(fast);
    ASSERT_EQ(free.exposed(), 0.0);
    ASSERT_LE(free.step, t.step + slack);
    // With a buffer for every bucket and nothing to pack, overlap never costs anything. (With two buffers one
    // may be held by a bucket that is needed late; packing makes it a question of the buckets' order.)
    times.buffers = times.buckets.size();
    for (BucketTimes& bucket : times.buckets) bucket.pack_gradients = bucket.unpack_weights = 0.0;
    const double together = run_timeline(times).step;
    times.overlap = false;
    ASSERT_LE(together, run_timeline(times).step + slack) << "seed " << seed;
  }
}

TEST(Timeline, RefusesWhatCannotBe) {
  EXPECT_THROW(run_timeline({.stages = {}, .buckets = {}}), Error);
  EXPECT_THROW(run_timeline({.stages = {1}, .micro_steps = 0, .buckets = {}}), Error);
  EXPECT_THROW(run_timeline({.stages = {1}, .buckets = {{.first_use = 1}}}), Error);
  EXPECT_THROW(run_timeline({.stages = {1}, .buckets = {}, .buffers = 0}), Error);
}

// "Communication over step time without overlap" for H100s at 40 % MFU: a table that was made before and
// elsewhere, from a bus of 350 GB/s with eight network cards a node or
// inside a node, of 45 GB/s with one card, bf16 both ways.
double communication_share(int ranks, int64_t cards, double tokens) {
  const Hardware hardware{.name = "H100s of the table",
                          .device = {},
                          .node = {.devices = 8, .link = {.gb_per_s = 350.0}},
                          .network = NetworkHardware{cards, {.gb_per_s = 45.0}}};
  const double parameters = 1.5e9, part = 2.0 * parameters / ranks;  // the share does not depend on them
  const double seconds = collective_seconds(hardware, ranks, part);
  const Timeline t = run_timeline({.stages = {6.0 * parameters * tokens / ranks / (0.40 * 989.4e12)},
                                   .buckets = {{.reduce_scatter = seconds, .all_gather = seconds}},
                                   .overlap = false});
  return 100.0 * t.exposed() / t.compute;
}

TEST(Timeline, TableOfCommunicationWithoutOverlap) {
  EXPECT_NEAR(communication_share(8, 8, 0.5e6), 1.1, 0.05);
  EXPECT_NEAR(communication_share(16, 8, 1e6), 1.1, 0.05);
  EXPECT_NEAR(communication_share(16, 1, 1e6), 8.8, 0.05);
  EXPECT_NEAR(communication_share(64, 8, 1e6), 4.7, 0.05);
  EXPECT_NEAR(communication_share(64, 1, 1e6), 37.0, 0.5);
  EXPECT_NEAR(communication_share(64, 8, 4e6), 1.2, 0.05);
  EXPECT_NEAR(communication_share(64, 1, 4e6), 9.2, 0.05);
}

}  // namespace
}  // namespace polar::test

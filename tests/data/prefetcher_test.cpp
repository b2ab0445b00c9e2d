#include "data/prefetcher.h"

#include <gmock/gmock.h>

#include <chrono>
#include <thread>

#include "data/batch_buffers.h"
#include "data/support.h"

namespace polar::test {
namespace {

using testing::HasSubstr;

class PrefetcherTest : public testing::Test {
 protected:
  PrefetcherTest() { write_counting_shard(folder_ / "a.bin", 2000, 5000, 100); }
  LoaderOptions options() const {
    return {.sources = {{(folder_ / "a.bin").string(), 1.0}},
            .sequence_length = 16,
            .packing = Packing::documents,
            .vocab_size = 5000,
            .tokenizer_hash = ""};
  }
  std::vector<Batch> ring(size_t count) {
    buffers_.assign(count, BatchBuffers(4, 16));
    std::vector<Batch> views;
    for (BatchBuffers& buffer : buffers_) views.push_back(buffer.view());
    return views;
  }
  TemporaryDirectory folder_;
  std::vector<BatchBuffers> buffers_;
};

TEST_F(PrefetcherTest, GivesWhatFillGivesFromAnyPosition) {
  const Loader loader(options());
  const auto plan = [](uint64_t n) { return 1000 + 8 * n; };  // the second rank of two takes every other four
  for (const size_t depth : {2, 3, 7}) {
    for (const uint64_t first : {0, 5}) {
      Prefetcher prefetcher(loader, ring(depth), first, plan);
      for (uint64_t n = first; n < first + 50; ++n) {
        const Prefetcher::View view = prefetcher.next();
        EXPECT_EQ(view.index, n);
        EXPECT_EQ(view.first_sample, plan(n));
        BatchBuffers direct(4, 16);
        const BatchCounts counts = loader.fill(plan(n), direct.view());
        EXPECT_EQ(view.counts.valid_tokens, counts.valid_tokens);
        EXPECT_EQ(std::vector<int32_t>(view.batch.ids, view.batch.ids + 64), direct.ids);
        EXPECT_EQ(std::vector<int32_t>(view.batch.targets, view.batch.targets + 64), direct.targets);
        EXPECT_EQ(std::vector<int32_t>(view.batch.document_starts, view.batch.document_starts + 64),
                  direct.document_starts);
      }
    }
  }
}

// Rows that do not all follow each other: two samples, then two that come six later.
TEST_F(PrefetcherTest, RowsMayBeApart) {
  const Loader loader(options());
  Prefetcher prefetcher(loader, ring(2), 0, [](uint64_t n) { return 100 * n; }, {.together = 2, .apart = 6});
  for (uint64_t n = 0; n < 10; ++n) {
    const Prefetcher::View view = prefetcher.next();
    BatchCounts counts;
    for (const int64_t half : {0, 1}) {
      BatchBuffers direct(2, 16);
      counts.valid_tokens +=
          loader.fill(100 * n + 6 * static_cast<uint64_t>(half), direct.view()).valid_tokens;
      const auto same = [half](const int32_t* all, const std::vector<int32_t>& want) {
        return std::vector<int32_t>(all + 32 * half, all + 32 * (half + 1)) == want;
      };
      EXPECT_TRUE(same(view.batch.ids, direct.ids));
      EXPECT_TRUE(same(view.batch.targets, direct.targets));
      EXPECT_TRUE(same(view.batch.document_starts, direct.document_starts));
    }
    EXPECT_EQ(view.counts.valid_tokens, counts.valid_tokens);
  }
}

TEST_F(PrefetcherTest, ABatchStaysUntilTheNextIsTaken) {
  const Loader loader(options());
  Prefetcher prefetcher(loader, ring(2), 0, [](uint64_t n) { return 4 * n; });
  for (int n = 0; n < 20; ++n) {
    const Prefetcher::View view = prefetcher.next();
    const std::vector<int32_t> before(view.batch.ids, view.batch.ids + 64);
    std::this_thread::sleep_for(
        std::chrono::milliseconds(1));  // the thread has time to overwrite it, if it would
    EXPECT_EQ(std::vector<int32_t>(view.batch.ids, view.batch.ids + 64), before);
  }
}

TEST_F(PrefetcherTest, ErrorsArriveAfterTheGoodBatches) {
  LoaderOptions sequential = options();
  sequential.order = SampleOrder::sequential;
  const Loader loader(sequential);  // 124 samples: 31 batches
  Prefetcher prefetcher(loader, ring(3), 29, [](uint64_t n) { return 4 * n; });
  EXPECT_EQ(prefetcher.next().index, 29u);
  EXPECT_EQ(prefetcher.next().index, 30u);
  for (int again = 0; again < 2; ++again)
    EXPECT_THAT(error_of([&] { prefetcher.next(); }).what(), HasSubstr("the split has 124"));
}

TEST_F(PrefetcherTest, WaitsAreMeasured) {
  const Loader loader(options());
  Prefetcher slow(loader, ring(2), 0, [](uint64_t n) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return n;
  });
  for (int n = 0; n < 3; ++n) slow.next();
  EXPECT_GE(slow.wait_seconds(), 0.03);
}

TEST_F(PrefetcherTest, StopsWhateverItIsAt) {
  const Loader loader(options());
  for (int round = 0; round < 50; ++round) {
    Prefetcher prefetcher(loader, ring(2 + static_cast<size_t>(round) % 3), 0, [](uint64_t n) { return n; });
    for (int n = 0; n < round % 4; ++n) prefetcher.next();
  }
}

TEST_F(PrefetcherTest, NeedsTwoBuffers) {
  const Loader loader(options());
  EXPECT_THAT(
      error_of([&] { Prefetcher prefetcher(loader, ring(1), 0, [](uint64_t n) { return n; }); }).what(),
      HasSubstr("at least 2"));
}

}  // namespace
}  // namespace polar::test

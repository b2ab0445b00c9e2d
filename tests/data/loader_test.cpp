#include "data/loader.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "data/batch_buffers.h"
#include "data/support.h"

namespace polar::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kLength = 8;

// Three sources of different sizes; token t of a shard is t mod 5000, so tokens tell their place.
class LoaderTest : public testing::Test {
 protected:
  LoaderTest() {
    write_counting_shard(folder_ / "a-0.bin", 401, 5000, 13, 2005);
    write_counting_shard(folder_ / "a-1.bin", 85, 5000, 13, 425);
    write_counting_shard(folder_ / "b-0.bin", 200, 5000, 50, 800);
    write_counting_shard(folder_ / "c-0.bin", 4000, 5000, 7, 4000);
  }
  LoaderOptions options(std::vector<std::pair<const char*, double>> sources) const {
    LoaderOptions result{
        .sources = {}, .sequence_length = kLength, .seed = 11, .vocab_size = 5000, .tokenizer_hash = ""};
    for (const auto& [name, weight] : sources)
      result.sources.push_back({(folder_ / fmt::format("{}-*.bin", name)).string(), weight});
    return result;
  }
  TemporaryDirectory folder_;
};

TEST_F(LoaderTest, TargetsAreTheNextTokens) {
  const Loader loader(options({{"a", 1.0}}));
  EXPECT_EQ(loader.samples_per_epoch(), 50u + 10u);
  EXPECT_EQ(loader.tokens(), 486u);
  BatchBuffers batch(6, kLength);
  const BatchCounts counts = loader.fill(0, batch.view());
  EXPECT_EQ(counts.valid_tokens, 6 * kLength);
  EXPECT_DOUBLE_EQ(counts.text_bytes, 6 * kLength * 5.0);
  for (int64_t row = 0; row < 6; ++row) {
    const auto begin = static_cast<int32_t>(loader.place(static_cast<uint64_t>(row)).begin);
    for (int64_t t = 0; t < kLength; ++t) {
      const auto at = static_cast<size_t>(row * kLength + t);
      EXPECT_EQ(batch.ids[at], begin + t);
      EXPECT_EQ(batch.targets[at], begin + t + 1);
      EXPECT_EQ(batch.document_starts[at], -7);  // left alone without document packing
    }
  }
}

TEST_F(LoaderTest, AnEpochVisitsEverySampleOnceAndTheNextInAnotherOrder) {
  const Loader loader(options({{"a", 1.0}}));
  const uint64_t samples = loader.samples_per_epoch();
  std::vector<std::vector<std::pair<size_t, uint64_t>>> orders;
  for (uint64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<std::pair<size_t, uint64_t>> order;
    for (uint64_t i = 0; i < samples; ++i) {
      const Loader::Place place = loader.place(epoch * samples + i);
      order.emplace_back(place.shard, place.begin / kLength);  // the offset is below kLength
    }
    const std::set<std::pair<size_t, uint64_t>> distinct(order.begin(), order.end());
    EXPECT_EQ(distinct.size(), samples);
    orders.push_back(order);
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_NE(orders[1], orders[2]);
}

TEST_F(LoaderTest, TheCutsMoveFromEpochToEpoch) {
  const Loader loader(options({{"b", 1.0}}));  // 200 tokens: 24 samples and 7 tokens left over
  std::set<uint64_t> offsets;
  for (uint64_t epoch = 0; epoch < 64; ++epoch) {
    std::set<uint64_t> of_epoch;
    for (uint64_t i = 0; i < 24; ++i) {
      const uint64_t begin = loader.place(epoch * 24 + i).begin;
      EXPECT_LE(begin + kLength + 1, 200u);
      of_epoch.insert(begin % kLength);
    }
    EXPECT_EQ(of_epoch.size(), 1u);  // neighbouring samples do not overlap
    offsets.insert(of_epoch.begin(), of_epoch.end());
  }
  EXPECT_EQ(offsets.size(), 8u);
}

TEST_F(LoaderTest, TheSeedDecidesTheOrder) {
  LoaderOptions seeded = options({{"a", 1.0}});
  const auto order = [&](uint64_t seed) {
    seeded.seed = seed;
    const Loader loader(seeded);
    std::vector<uint64_t> begins;
    for (uint64_t i = 0; i < 40; ++i) begins.push_back(loader.place(i).begin);
    return begins;
  };
  EXPECT_EQ(order(1), order(1));
  EXPECT_NE(order(1), order(2));
}

// The order looks random: neighbours in the order are not neighbours in the data (4000 tokens, 499 samples).
TEST_F(LoaderTest, TheOrderIsNotCorrelatedWithTheData) {
  const Loader loader(options({{"c", 1.0}}));
  const uint64_t n = loader.samples_per_epoch();
  double correlation = 0;
  const double mean = static_cast<double>(n - 1) / 2, variance = (static_cast<double>(n * n) - 1) / 12;
  for (uint64_t i = 0; i < n; ++i)
    correlation +=
        (static_cast<double>(i) - mean) * (static_cast<double>(loader.place(i).begin / kLength) - mean);
  correlation /= static_cast<double>(n) * variance;
  EXPECT_LT(std::abs(correlation), 4 / std::sqrt(static_cast<double>(n)));  // four standard deviations
}

TEST_F(LoaderTest, MixturesRealiseTheirWeights) {
  const std::array<double, 3> weights = {0.5, 3.0, 1.25};
  const Loader loader(options({{"a", weights[0]}, {"b", weights[1]}, {"c", weights[2]}}));
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::array<double, 3> had{};
  for (uint64_t i = 0; i < 20'000; ++i) {
    ++had[loader.place(i).source];
    for (size_t k = 0; k < 3; ++k)
      ASSERT_LE(std::abs(had[k] - static_cast<double>(i + 1) * weights[k] / sum), 3.0)
          << "after sample " << i;
  }
}

// The n-th sample that a mixture takes from a source is the n-th that the source gives in its own order:
// every epoch of the source is complete.
TEST_F(LoaderTest, MixturesVisitEachSourceCompletely) {
  const Loader loader(options({{"a", 1.0}, {"b", 2.5}, {"c", 0.3}}));
  std::map<size_t, std::vector<std::pair<size_t, uint64_t>>> visits;
  for (uint64_t i = 0; i < 2000; ++i) {
    const Loader::Place place = loader.place(i);
    visits[place.source].emplace_back(place.shard, place.begin / kLength);
  }
  for (const auto& [source, samples] : std::map<size_t, size_t>{{0, 60}, {1, 24}}) {
    ASSERT_GE(visits[source].size(), 2 * samples);
    for (size_t epoch = 0; epoch < 2; ++epoch) {
      const auto begin = visits[source].begin() + static_cast<std::ptrdiff_t>(epoch * samples);
      const std::set<std::pair<size_t, uint64_t>> distinct(begin,
                                                           begin + static_cast<std::ptrdiff_t>(samples));
      EXPECT_EQ(distinct.size(), samples);
    }
  }
}

TEST_F(LoaderTest, AnyMicroBatchAndAnyResumeGiveTheSameTokens) {
  LoaderOptions mixed = options({{"a", 1.0}, {"c", 2.0}});
  mixed.packing = Packing::documents;
  const Loader loader(mixed);
  const uint64_t first = 12'345'678'901;
  BatchBuffers whole(24, kLength);
  const BatchCounts counts = loader.fill(first, whole.view());
  for (const int64_t micro : {1, 2, 3, 4, 8, 12}) {
    const Loader resumed(mixed);
    BatchBuffers joined(0, kLength);
    joined.sequences = 24;
    BatchCounts sum;
    for (int64_t begin = 0; begin < 24; begin += micro) {
      BatchBuffers part(micro, kLength);
      const BatchCounts of_part = resumed.fill(first + static_cast<uint64_t>(begin), part.view());
      sum.valid_tokens += of_part.valid_tokens;
      sum.text_bytes += of_part.text_bytes;
      joined.ids.insert(joined.ids.end(), part.ids.begin(), part.ids.end());
      joined.targets.insert(joined.targets.end(), part.targets.begin(), part.targets.end());
      joined.document_starts.insert(joined.document_starts.end(), part.document_starts.begin(),
                                    part.document_starts.end());
    }
    EXPECT_EQ(joined, whole);
    EXPECT_EQ(sum.valid_tokens, counts.valid_tokens);
    EXPECT_NEAR(sum.text_bytes, counts.text_bytes, 1e-9 * counts.text_bytes);
  }
}

// Against the definition, position by position: documents of 13 tokens begin at multiples of 13.
TEST_F(LoaderTest, DocumentsAreKeptApart) {
  LoaderOptions packed = options({{"a", 1.0}});
  packed.packing = Packing::documents;
  const Loader loader(packed);
  BatchBuffers batch(60, kLength);
  const BatchCounts counts = loader.fill(0, batch.view());
  int64_t valid = 0;
  for (int64_t row = 0; row < 60; ++row) {
    const auto begin = static_cast<int64_t>(loader.place(static_cast<uint64_t>(row)).begin);
    for (int64_t t = 0; t < kLength; ++t) {
      const auto at = static_cast<size_t>(row * kLength + t);
      const int64_t document = (begin + t) / 13;
      EXPECT_EQ(batch.document_starts[at], std::max<int64_t>(document * 13 - begin, 0));
      const bool same = (begin + t + 1) / 13 == document;
      EXPECT_EQ(batch.targets[at], same ? begin + t + 1 : -1);
      valid += same ? 1 : 0;
    }
  }
  EXPECT_EQ(counts.valid_tokens, valid);
  EXPECT_LT(valid, 60 * kLength);
}

TEST_F(LoaderTest, SequentialGoesThroughAllShardsOnce) {
  LoaderOptions validation = options({{"b", 1.0}, {"a", 5.0}});
  validation.order = SampleOrder::sequential;
  const Loader loader(validation);
  ASSERT_EQ(loader.samples_per_epoch(), 24u + 50u + 10u);
  EXPECT_TRUE(loader.knows_text_bytes());
  std::vector<uint64_t> begins;
  for (const uint64_t i : {0, 1, 23, 24, 73, 74, 83}) begins.push_back(loader.place(i).begin);
  EXPECT_THAT(begins, ElementsAre(0, 8, 184, 0, 392, 0, 72));
  EXPECT_EQ(loader.place(74).shard, 1u);
  BatchBuffers batch(84, kLength);
  // b has 4 bytes a token, a has 5.
  EXPECT_DOUBLE_EQ(loader.fill(0, batch.view()).text_bytes, 24 * kLength * 4.0 + 60 * kLength * 5.0);
  EXPECT_THAT(error_of([&] { loader.place(84); }).what(), HasSubstr("the split has 84"));
}

TEST_F(LoaderTest, LlmCFilesAreReadAndTheirDocumentsKeptApart) {
  std::array<int32_t, 256> header = {20240520, 1, 18};
  std::array<uint16_t, 18> tokens = {50256, 1, 2, 3,  50256, 4,  5,  50256, 6,
                                     7,     8, 9, 10, 11,    12, 13, 50256, 14};
  std::string bytes(reinterpret_cast<const char*>(header.data()), sizeof(header));
  bytes.append(reinterpret_cast<const char*>(tokens.data()), sizeof(tokens));
  put(folder_ / "gpt2.bin", bytes);
  LoaderOptions llmc{.sources = {{(folder_ / "gpt2.bin").string(), 1.0}},
                     .sequence_length = kLength,
                     .packing = Packing::documents,
                     .order = SampleOrder::sequential,
                     .vocab_size = 50257,
                     .tokenizer_hash = std::string(32, 'a')};
  const Loader loader(llmc);
  EXPECT_FALSE(loader.knows_text_bytes());
  BatchBuffers batch(2, kLength);
  const BatchCounts counts = loader.fill(0, batch.view());
  EXPECT_EQ(counts.valid_tokens, 13);
  EXPECT_EQ(counts.text_bytes, 0);
  EXPECT_THAT(batch.ids, ElementsAre(50256, 1, 2, 3, 50256, 4, 5, 50256, 6, 7, 8, 9, 10, 11, 12, 13));
  EXPECT_THAT(batch.targets, ElementsAre(1, 2, 3, -1, 4, 5, -1, 6, 7, 8, 9, 10, 11, 12, 13, -1));
  EXPECT_THAT(batch.document_starts, ElementsAre(0, 0, 0, 0, 4, 4, 4, 7, 0, 0, 0, 0, 0, 0, 0, 0));
  // Its ids are too large for a smaller model: found when they are read.
  llmc.vocab_size = 50256;
  EXPECT_THAT(error_of([&] { Loader(llmc).fill(0, batch.view()); }).what(), HasSubstr("id 50256"));
}

TEST_F(LoaderTest, BadOptionsAreNamed) {
  const auto message = [&](auto change) {
    LoaderOptions changed = options({{"a", 1.0}, {"b", 1.0}});
    change(changed);
    const Error error = error_of([&] { Loader loader(changed); });
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
    return std::string(error.what());
  };
  using O = LoaderOptions;
  write_counting_shard(folder_ / "hash.bin", 100, 300, 10, 0, std::string(32, 'b'));
  EXPECT_THAT(message([](O& o) { o.sources.clear(); }), HasSubstr("no data"));
  EXPECT_THAT(message([](O& o) { o.sources[0].path = "/nowhere/*.bin"; }), HasSubstr("/nowhere/*.bin"));
  EXPECT_THAT(message([](O& o) { o.sources[1].weight = 0; }), HasSubstr("weight 0"));
  EXPECT_THAT(message([](O& o) { o.sources[1].weight = -1; }), HasSubstr("weight -1"));
  EXPECT_THAT(message([](O& o) { o.sources[1].weight = NAN; }), HasSubstr("weight nan"));
  EXPECT_THAT(message([](O& o) { o.sequence_length = 0; }), HasSubstr("sequence_length is 0"));
  EXPECT_THAT(message([](O& o) { o.sequence_length = 300; }), HasSubstr("too few for one sample"));
  EXPECT_THAT(message([](O& o) { o.vocab_size = 4999; }),
              HasSubstr("vocabulary of 5000, the model has 4999"));
  EXPECT_THAT(message([&](O& o) {
                o.sources[0].path = (folder_ / "hash.bin").string();
                o.tokenizer_hash = std::string(32, 'c');
              }),
              HasSubstr("another tokenizer"));
}

TEST_F(LoaderTest, ABatchOfAnotherLengthIsRefused) {
  const Loader loader(options({{"a", 1.0}}));
  BatchBuffers batch(1, kLength + 1);
  EXPECT_THAT(error_of([&] { loader.fill(0, batch.view()); }).what(), HasSubstr("sequence length 9"));
}

TEST(Batch, BytesAreThoseOfItsArrays) {
  EXPECT_EQ(batch_bytes(8, 256, Packing::concatenate), 2 * 8 * 256 * 4);
  EXPECT_EQ(batch_bytes(8, 256, Packing::documents), 3 * 8 * 256 * 4);
}

}  // namespace
}  // namespace polar::test

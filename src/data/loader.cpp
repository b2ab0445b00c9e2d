#include "data/loader.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"
#include "data/glob.h"

namespace polar {
namespace {

__extension__ using uint128 = unsigned __int128;

// Streams of base/random.h: the order of the samples, and the offsets of the cuts.
constexpr uint64_t kOrderStream = stream_of("data.order", 10);
constexpr uint64_t kOffsetStream = stream_of("data.offset", 11);

// How many of the first n things go to a source whose share is share / 2^64.
uint64_t taken(uint64_t n, uint64_t share) {
  return static_cast<uint64_t>((static_cast<uint128>(n) * share) >> 64);
}

void check_shard(const Shard& shard, const LoaderOptions& options) {
  const ShardInfo& info = shard.info();
  if (info.vocab_size > static_cast<uint64_t>(options.vocab_size))
    fail_usage(
        "{} was written for a vocabulary of {}, the model has {}: raise model.vocab_size, or prepare the "
        "data with another tokenizer",
        shard.path().string(), info.vocab_size, options.vocab_size);
  if (!options.tokenizer_hash.empty() && !info.tokenizer_hash.empty() &&
      info.tokenizer_hash != options.tokenizer_hash)
    fail_usage(
        "{} was written with another tokenizer (hash {}) than data.tokenizer (hash {}): prepare it again, or "
        "name the tokenizer that made it",
        shard.path().string(), info.tokenizer_hash, options.tokenizer_hash);
}

// Tells which positions of a shard begin a document, for positions asked in increasing order.
class DocumentBorders {
 public:
  DocumentBorders(const Shard& shard, uint64_t begin)
      : document_token_(shard.info().document_token),
        next_(std::lower_bound(shard.document_starts().begin(), shard.document_starts().end(), begin)),
        end_(shard.document_starts().end()) {}
  bool begins(uint64_t position, int32_t id) {
    if (document_token_ >= 0) return id == document_token_;
    if (next_ == end_ || *next_ != position) return false;
    ++next_;
    return true;
  }

 private:
  int32_t document_token_;
  std::span<const uint64_t>::iterator next_, end_;
};

// Fills starts (T) and masks targets that belong to another document; returns how many targets stay.
int64_t separate_documents(const Shard& shard, uint64_t begin, int64_t length, int32_t* targets,
                           int32_t* starts) {
  DocumentBorders borders(shard, begin + 1);
  int32_t start = 0;
  int64_t valid = length;
  for (int64_t t = 0; t < length; ++t) {
    starts[t] = start;
    if (!borders.begins(begin + static_cast<uint64_t>(t) + 1, targets[t])) continue;
    start = static_cast<int32_t>(t + 1);
    targets[t] = -1;
    --valid;
  }
  return valid;
}

}  // namespace

int64_t batch_bytes(int64_t sequences, int64_t sequence_length, Packing packing) {
  const int64_t arrays = packing == Packing::documents ? 3 : 2;
  return arrays * sequences * sequence_length * static_cast<int64_t>(sizeof(int32_t));
}

Loader::Loader(const LoaderOptions& options) : options_(options) {
  if (options_.sequence_length < 1 || options_.sequence_length >= (int64_t{1} << 31))
    fail_usage("data.sequence_length is {}, expected 1 or more (below 2^31)", options_.sequence_length);
  if (options_.vocab_size < 1 || options_.vocab_size > (int64_t{1} << 31))
    fail_usage("the model's vocabulary is {}, expected 1 or more (up to 2^31)", options_.vocab_size);
  if (options_.sources.empty()) fail_usage("no data: name at least one pattern of token shards");
  for (const DataSource& source : options_.sources) open_source(source);
  set_shares();
}

void Loader::open_source(const DataSource& source) {
  if (!std::isfinite(source.weight) || source.weight <= 0)
    fail_usage("the data source \"{}\" has the weight {}, expected a positive number", source.path,
               source.weight);
  Source opened;
  uint64_t tokens = 0;
  for (const auto& path : expand_glob(source.path)) {
    const Shard& shard = opened.shards.emplace_back(path);
    check_shard(shard, options_);
    tokens += shard.info().tokens;
    const uint64_t targets = shard.info().tokens == 0 ? 0 : shard.info().tokens - 1;
    opened.first_sample.push_back(opened.samples() +
                                  targets / static_cast<uint64_t>(options_.sequence_length));
  }
  if (opened.samples() == 0)
    fail_usage(
        "the data source \"{}\" has {} tokens in {} shards: too few for one sample of sequence_length + 1 = "
        "{} tokens",
        source.path, tokens, opened.shards.size(), options_.sequence_length + 1);
  samples_ += opened.samples();
  sources_.push_back(std::move(opened));
}

void Loader::set_shares() {
  double rest = 0;
  for (size_t k = sources_.size(); k-- > 0;) {
    rest += options_.sources[k].weight;
    const double share = std::ldexp(options_.sources[k].weight / rest, 64);
    sources_[k].share = share >= 0x1p64 ? ~uint64_t{0} : static_cast<uint64_t>(share);
  }
}

uint64_t Loader::tokens() const {
  uint64_t sum = 0;
  for (const Source& source : sources_)
    for (const Shard& shard : source.shards) sum += shard.info().tokens;
  return sum;
}

std::string Loader::checksum() const {
  std::string shards;
  for (const Source& source : sources_)
    for (const Shard& shard : source.shards)
      shards += fmt::format("{} {};", shard.info().tokens, shard.info().checksum);
  return polar::checksum(std::as_bytes(std::span(shards)));
}

bool Loader::knows_text_bytes() const {
  return std::all_of(sources_.begin(), sources_.end(), [](const Source& source) {
    return std::all_of(source.shards.begin(), source.shards.end(),
                       [](const Shard& shard) { return shard.info().text_bytes > 0; });
  });
}

Loader::Place Loader::place(uint64_t sample) const {
  return options_.order == SampleOrder::shuffled ? place_shuffled(sample) : place_sequential(sample);
}

Loader::Place Loader::place_shuffled(uint64_t sample) const {
  // Each source in turn takes its share of what those before it have left over, evenly spread; n becomes the
  // count of samples that source k has had before this one.
  uint64_t n = sample;
  size_t k = 0;
  for (; k + 1 < sources_.size(); ++k) {
    const uint64_t before = taken(n, sources_[k].share);
    const bool chosen = taken(n + 1, sources_[k].share) > before;
    n = chosen ? before : n - before;
    if (chosen) break;
  }
  const Source& source = sources_[k];
  const uint64_t epoch = n / source.samples();
  const uint64_t key = random_bits(options_.seed, kOrderStream + k, epoch);
  Place place =
      source.place(Permutation(source.samples(), key)(n % source.samples()), options_.sequence_length);
  place.source = k;
  // The tokens that the cut leaves over are left over at either end.
  const uint64_t left_over =
      (source.shards[place.shard].info().tokens - 1) % static_cast<uint64_t>(options_.sequence_length);
  place.begin += random_bits(key, kOffsetStream, place.shard) % (left_over + 1);
  return place;
}

Loader::Place Loader::place_sequential(uint64_t sample) const {
  if (sample >= samples_) fail("sample {} was asked for, the split has {}", sample, samples_);
  size_t k = 0;
  for (; sample >= sources_[k].samples(); ++k) sample -= sources_[k].samples();
  Place place = sources_[k].place(sample, options_.sequence_length);
  place.source = k;
  return place;
}

Loader::Place Loader::Source::place(uint64_t sample, int64_t sequence_length) const {
  const auto above = std::upper_bound(first_sample.begin(), first_sample.end(), sample);
  const size_t shard = static_cast<size_t>(above - first_sample.begin()) - 1;
  return {.shard = shard, .begin = (sample - first_sample[shard]) * static_cast<uint64_t>(sequence_length)};
}

BatchCounts Loader::fill(uint64_t first_sample, const Batch& batch) const {
  if (batch.sequence_length != options_.sequence_length)
    fail("a batch of sequence length {} was given to a loader of {}", batch.sequence_length,
         options_.sequence_length);
  BatchCounts sum;
  for (int64_t row = 0; row < batch.sequences; ++row) {
    const BatchCounts counts = fill_row(first_sample + static_cast<uint64_t>(row), batch, row);
    sum.valid_tokens += counts.valid_tokens;
    sum.text_bytes += counts.text_bytes;
  }
  return sum;
}

BatchCounts Loader::fill_row(uint64_t sample, const Batch& batch, int64_t row) const {
  const int64_t length = options_.sequence_length;
  const Place at = place(sample);
  const Shard& shard = sources_[at.source].shards[at.shard];
  int32_t* ids = batch.ids + row * length;
  int32_t* targets = batch.targets + row * length;
  shard.read(at.begin, static_cast<uint64_t>(length), ids);
  shard.read(at.begin + 1, static_cast<uint64_t>(length), targets);
  uint32_t largest = static_cast<uint32_t>(targets[length - 1]);
  for (int64_t t = 0; t < length; ++t) largest = std::max(largest, static_cast<uint32_t>(ids[t]));
  if (largest >= static_cast<uint64_t>(options_.vocab_size))
    fail(
        "{} holds the id {} near token {}, the model's vocabulary is {} (`polartrain data verify` checks "
        "shards)",
        shard.path().string(), largest, at.begin, options_.vocab_size);

  BatchCounts counts{.valid_tokens = length};
  if (options_.packing == Packing::documents)
    counts.valid_tokens =
        separate_documents(shard, at.begin, length, targets, batch.document_starts + row * length);
  counts.text_bytes = static_cast<double>(counts.valid_tokens) *
                      static_cast<double>(shard.info().text_bytes) / static_cast<double>(shard.info().tokens);
  return counts;
}

}  // namespace polar

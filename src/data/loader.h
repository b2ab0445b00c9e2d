// From token shards to batches: which sample comes at which place of the run, without any state, so that a
// run resumes exactly on any number of ranks and with any micro-batch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/config.h"
#include "data/shard.h"

namespace polar {

// Where samples are written: arrays of the caller, row-major (sequences, sequence_length), i32.
struct Batch {
  int64_t sequences = 0;
  int64_t sequence_length = 0;
  int32_t* ids = nullptr;              // the inputs
  int32_t* targets = nullptr;          // the next tokens; -1: no loss at this position
  int32_t* document_starts = nullptr;  // first position in its row of the token's document; required with
                                       // Packing::documents, left alone otherwise
};

// Bytes of the arrays of one batch (what the memory plan counts as input).
int64_t batch_bytes(int64_t sequences, int64_t sequence_length, Packing packing);

// What one fill() wrote.
struct BatchCounts {
  int64_t valid_tokens = 0;  // targets that are not -1
  double text_bytes = 0;  // bytes of text the valid targets stand for, by the shards' bytes per token; 0 if a
                          // shard does not record them
};

enum class SampleOrder {
  shuffled,    // training: endless, each source in a fresh order every epoch, sources mixed by weight
  sequential,  // validation: the windows of all shards in order, once
};

struct LoaderOptions {
  std::vector<DataSource> sources;
  int64_t sequence_length = 0;
  Packing packing = Packing::concatenate;
  SampleOrder order = SampleOrder::shuffled;
  uint64_t seed = 0;
  int64_t vocab_size = 0;      // of the model
  std::string tokenizer_hash;  // of the configured tokenizer; empty: not checked
};

// A sample is sequence_length + 1 neighbouring tokens of one shard: T inputs and the T tokens that follow
// them. A source's shards are cut into floor((tokens - 1) / T) samples each.
//
// Sample i of a shuffled loader is a pure function of (seed, i): the weights are realised by a
// low-discrepancy sequence (after n samples each source has had n * weight of them, up to the number of
// sources), and sample n of a source is entry n mod S of a keyed permutation of its S samples, keyed by
// (seed, source, epoch n / S). In every epoch the cuts of each shard begin at another keyed offset, so that
// the borders move.
class Loader {
 public:
  // Opens all shards. Errors (exit code 2): no file matches, weights not positive, a source too short for one
  // sample, a vocabulary larger than the model's, another tokenizer; (exit code 1): a damaged shard.
  explicit Loader(const LoaderOptions& options);

  // Writes samples [first_sample, first_sample + batch.sequences). Pure and thread-safe; allocates nothing.
  // Errors: an id outside the model's vocabulary (the shard is damaged); past the end when sequential.
  BatchCounts fill(uint64_t first_sample, const Batch& batch) const;

  // Samples of all sources together, each once.
  uint64_t samples_per_epoch() const { return samples_; }
  uint64_t tokens() const;
  // Of what the shards' headers say, their own checksums among it: cheap, and equal for equal data.
  std::string checksum() const;
  // False if any shard does not record its text bytes: bits per byte cannot be told.
  bool knows_text_bytes() const;
  int64_t sequence_length() const { return options_.sequence_length; }

  // The place of sample i, for tests and for reports.
  struct Place {
    size_t source = 0;
    size_t shard = 0;    // within the source
    uint64_t begin = 0;  // first token
  };
  Place place(uint64_t sample) const;

 private:
  struct Source {
    std::vector<Shard> shards;
    std::vector<uint64_t> first_sample = {0};  // of each shard; at the end the number of samples
    uint64_t share = 0;  // of what the sources before leave over, in units of 2^-64; the last takes the rest
    uint64_t samples() const { return first_sample.back(); }
    Place place(uint64_t sample, int64_t sequence_length) const;
  };
  void open_source(const DataSource& source);
  void set_shares();
  Place place_shuffled(uint64_t sample) const;
  Place place_sequential(uint64_t sample) const;
  BatchCounts fill_row(uint64_t sample, const Batch& batch, int64_t row) const;

  LoaderOptions options_;
  std::vector<Source> sources_;
  uint64_t samples_ = 0;
};

}  // namespace polar

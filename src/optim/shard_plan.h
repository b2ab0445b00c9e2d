// Which rank owns which parameter, and in which buckets gradients travel to their owners and weights back.
//
// Matrices, which is what is not cut, lie whole in the part of their owner, in buckets of consecutive layers
// in the order of the backward pass. Within a bucket they go, the most expensive first, to the least loaded
// rank (longest processing time first), with the loads of the buckets before carried over; what a step of
// each costs, owner_costs of optim/optimizer.h knows. All other parameters are cut into equal ranges of
// elements; an untied head, whose gradient is complete first and whose weight is needed last, in a bucket of
// its own.
//
// A bucket is N parts of equal length, part r for rank r: reduce-scatter takes it to the owners, all-gather
// back. What a part is longer than its pieces is padding. The plan is a pure function of its arguments: the
// same on all ranks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensor/registry.h"

namespace polar {

struct ShardOptions {
  int world_size = 1;
  // 0: at most half the layers a bucket, so that one can travel while another is filled: the smallest number
  // with which padding is at most max_padding and the loads are within 2 % of the best; else the smallest
  // with enough padding only; else the one of least padding.
  int64_t layers_per_bucket = 0;
  double max_padding = 1.15;
};

struct Bucket {
  // Elements [begin, begin + count) of a parameter: all of a matrix, a range of anything else.
  struct Piece {
    int parameter = 0;  // index in the registry
    int64_t begin = 0, count = 0;
    int owner = 0;         // rank
    int64_t position = 0;  // in the owner's part, elements; a multiple of ParameterRegistry::kAlignment
  };
  std::string name;  // "layers 20-23"
  std::vector<Piece> pieces;
  int64_t part = 0;  // elements of each rank's part, padding included
};

class ShardPlan {
 public:
  // `costs`: by parameter index, what the owner's step costs, in any unit; 0 for what is cut. Error (exit
  // code 2) for a world size below 1.
  ShardPlan(const ParameterRegistry& registry, std::vector<double> costs, const ShardOptions& options);

  int world_size() const { return options_.world_size; }
  int64_t layers_per_bucket() const { return layers_per_bucket_; }
  // Those of matrices in the order in which the backward pass completes them, then those of element-wise
  // parameters.
  const std::vector<Bucket>& buckets() const { return buckets_; }
  size_t matrix_buckets() const { return matrix_buckets_; }
  // The rank that writes a parameter into a checkpoint: that of its first element.
  int writer(int parameter) const;
  // Where rank-independent arithmetic finds bucket b in a rank's own parts laid end to end.
  int64_t own_offset(size_t bucket) const;
  int64_t own_elements() const { return own_offset(buckets_.size()); }  // of one rank, padding included

  // Elements sent for matrices over elements of matrices, at least 1.
  double padding() const;
  // The largest load of a rank over the mean, at least 1.
  double imbalance() const;
  // The sum of each rank's costs.
  const std::vector<double>& loads() const { return loads_; }
  // Ring elements that a rank sends in a step: a reduce-scatter and an all-gather of every bucket.
  int64_t elements_sent() const;

  // XXH3-64 of everything above: equal plans have equal hashes.
  uint64_t hash() const;
  // A line a bucket, and what each rank owns.
  std::string table() const;

 private:
  struct Layered;
  void add_matrices(const Layered& layered, int64_t layers_per_bucket);
  void add_elements(std::string name, const std::vector<int>& elements);
  void choose_layers(const Layered& layered);

  const ParameterRegistry& registry_;
  std::vector<double> costs_;
  ShardOptions options_;
  int64_t layers_per_bucket_ = 0;
  std::vector<Bucket> buckets_;
  std::vector<double> loads_;
  size_t matrix_buckets_ = 0;
};

// The layer of "model.layers.11.mlp.up_proj.weight": 11; -1 for a parameter of no layer.
int64_t layer_of(const std::string& name);

}  // namespace polar

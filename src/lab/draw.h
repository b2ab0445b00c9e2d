// The random matrices of the lab's problems, as PolarTrain draws them or as PyTorch does.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lab/host_matrix.h"

namespace polar::lab {

enum class Generator {
  polartrain,  // base/random.h: every element is a pure function of seed, stream and index
  // PyTorch's CPU generator after torch.manual_seed(seed), in fp32: a sequence, so that the order of the
  // calls counts. Integers and uniform numbers are PyTorch's bits; normal ones differ by up to three units in
  // the last place, since PyTorch approximates logarithm and cosine, and not in all of its builds in the same
  // way.
  torch,
};
// "polartrain", "torch": the values of --draw, and in JSON.
const char* name_of(Generator generator);
// Error (exit code 2) for any other name.
Generator generator_of(const std::string& name);

// What is drawn after one seeding. PyTorch's sequence disregards `stream`, PolarTrain's numbers the order.
class Draw {
 public:
  virtual ~Draw() = default;
  // Elements N(0, 1); torch.randn(rows, cols).
  virtual HostMatrix normal(int64_t rows, int64_t cols, uint64_t stream) = 0;
  // Elements uniform in [-1, 1); torch.empty(rows, cols).uniform_(-1, 1).
  virtual HostMatrix uniform(int64_t rows, int64_t cols, uint64_t stream) = 0;
  // 1 with a probability of `share`, else 0; torch.rand(count) < share.
  virtual std::vector<uint8_t> chosen(int64_t count, double share, uint64_t stream) = 0;
  // Whole numbers in [0, limit): the `block`th (from 0) of those blocks of `count` that would follow from
  // here, of which none is taken; torch.randint(0, limit, (count,)), limit < 2^28.
  virtual std::vector<int32_t> indices(int64_t count, int64_t limit, uint64_t stream,
                                       int64_t block) const = 0;
};
std::unique_ptr<Draw> make_draw(Generator generator, uint64_t seed);

}  // namespace polar::lab

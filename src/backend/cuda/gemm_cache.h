// The file that keeps which algorithm was measured to be the fastest for which product, so that a run that
// goes on computes the same bits, and does not measure again.
#pragma once

#include <array>
#include <map>
#include <string>

#include "backend/cuda/gemm_problem.h"

namespace polar::cuda {

// An algorithm as cuBLASLt describes it to itself (cublasLtMatmulAlgo_t::data).
using GemmAlgorithm = std::array<uint64_t, 8>;

class GemmCache {
 public:
  // `path` empty: keeps nothing. `owner` names what the choices hold for (library version and GPU): a file of
  // another owner, or one that cannot be understood, counts as empty.
  GemmCache(std::string path, std::string owner);
  bool keeps() const { return !path_.empty(); }
  // The choice for this problem, or null.
  const GemmAlgorithm* find(const GemmProblem& problem) const;
  // Keeps a choice, in the file too (written whole and renamed; a file that cannot be written is a warning,
  // once).
  void insert(const GemmProblem& problem, const GemmAlgorithm& algorithm);

 private:
  void write();
  std::string path_, owner_;
  std::map<GemmProblem, GemmAlgorithm> choices_;
};

}  // namespace polar::cuda

// Collective operations on host memory over a Mesh. Every rank hears every other one directly: a rank sends
// (N - 1) / N of the data for a reduce-scatter or an all-gather, as in a ring, but the owner of an element
// has the summands of all ranks before it and adds them in the order of the ranks, bf16 with one rounding,
// and the rank that does not answer is the one that is named.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comm/mesh.h"
#include "tensor/tensor.h"

namespace polar {

// Error that names what was found if these are not tensors for Communicator::all_to_all between `ranks`.
void check_all_to_all(const Tensor& parts, const Tensor& arrived, int ranks, std::string_view name);

// The shapes are those of Communicator. Memory beyond the tensors: kScratchBytes, from the beginning.
class HostCollectives {
 public:
  static constexpr size_t kScratchBytes = size_t{8} << 20;

  explicit HostCollectives(Mesh& mesh);
  void all_reduce_sum(const Tensor& tensor);
  void reduce_scatter_sum(const Tensor& parts, const Tensor& own);
  void all_to_all(const Tensor& parts, const Tensor& arrived);
  void all_gather(const Tensor& parts);
  void broadcast(std::span<std::byte> bytes, int root);
  std::vector<std::string> all_gather_text(const std::string& own);
  uint64_t bytes_sent() const { return bytes_sent_; }

 private:
  enum class Kind : uint8_t { all_reduce = 1, reduce_scatter, all_gather, broadcast, text, all_to_all };
  // The piece of the flat data that belongs to a rank.
  struct Piece {
    std::byte* data = nullptr;
    int64_t count = 0;  // elements
  };
  struct Round;

  void begin(Kind kind, uint64_t size, int detail);
  void reduce_pieces(const std::vector<Piece>& pieces, std::byte* own, DType dtype);
  Round start_round(const std::vector<Piece>& pieces, DType dtype, int64_t begin, int64_t size, size_t half);
  void gather_pieces(const std::vector<Piece>& pieces, DType dtype);
  void exchange(const std::vector<Block>& sends, const std::vector<Block>& receives);
  int64_t round_size(DType dtype) const;

  Mesh& mesh_;
  const int rank_, ranks_;
  std::vector<std::byte> scratch_;
  std::atomic<uint64_t> bytes_sent_ = 0;
};

}  // namespace polar

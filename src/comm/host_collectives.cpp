#include "comm/host_collectives.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "comm/host_sum.h"

namespace polar {
namespace {

constexpr uint64_t kMaxText = 16u << 20;

uint64_t bytes_of(const std::vector<Block>& blocks) {
  uint64_t bytes = 0;
  for (const Block& block : blocks) bytes += block.bytes;
  return bytes;
}

}  // namespace

void check_all_to_all(const Tensor& parts, const Tensor& arrived, int ranks, std::string_view name) {
  if (arrived.dtype != parts.dtype || arrived.count() != parts.count() || parts.count() % ranks != 0)
    fail("all-to-all ({}): parts {} {} and arrived {} {}; expected (N, count) twice with N = {}", name,
         name_of(parts.dtype), parts.shape.text(), name_of(arrived.dtype), arrived.shape.text(), ranks);
  const auto begin = [](const Tensor& x) { return static_cast<const std::byte*>(x.data); };
  if (begin(parts) < begin(arrived) + arrived.bytes() && begin(arrived) < begin(parts) + parts.bytes())
    fail("all-to-all ({}): parts and arrived overlap", name);
}

HostCollectives::HostCollectives(Mesh& mesh)
    : mesh_(mesh), rank_(mesh.rank()), ranks_(mesh.world_size()), scratch_(kScratchBytes) {}

void HostCollectives::begin(Kind kind, uint64_t size, int detail) {
  mesh_.begin_operation((size << 16) + (static_cast<uint64_t>(detail) << 4) + static_cast<uint64_t>(kind));
}

void HostCollectives::exchange(const std::vector<Block>& sends, const std::vector<Block>& receives) {
  mesh_.exchange(sends, receives);
  bytes_sent_ += bytes_of(sends);
}

// One stretch of every rank's piece on its way: the own piece's summands come into the scratch memory.
struct HostCollectives::Round {
  Mesh::Exchange exchange;
  std::vector<const void*> summands;  // of this rank's piece, by rank
  int64_t begin = 0, count = 0;       // of this rank's piece
};

// Elements of a round, so that two of them fit the scratch memory.
int64_t HostCollectives::round_size(DType dtype) const {
  return std::max<int64_t>(
      1, static_cast<int64_t>(kScratchBytes / 2 / static_cast<size_t>(ranks_) / size_of(dtype)));
}

HostCollectives::Round HostCollectives::start_round(const std::vector<Piece>& pieces, DType dtype,
                                                    int64_t begin, int64_t size, size_t half) {
  const auto left = [&](int rank) {
    return std::clamp<int64_t>(pieces[static_cast<size_t>(rank)].count - begin, 0, size);
  };
  const auto at = [&](int rank) {
    return pieces[static_cast<size_t>(rank)].data + static_cast<size_t>(begin) * size_of(dtype);
  };
  Round round;
  round.begin = begin;
  round.count = left(rank_);
  std::vector<Block> sends, receives;
  std::byte* next = scratch_.data() + half * (kScratchBytes / 2);
  for (int rank = 0; rank < ranks_; ++rank) {
    if (rank == rank_) {
      round.summands.push_back(at(rank));
      continue;
    }
    receives.push_back({rank, next, static_cast<size_t>(round.count) * size_of(dtype)});
    round.summands.push_back(next);
    next += static_cast<size_t>(size) * size_of(dtype);
  }
  for (int step = 1; step < ranks_; ++step) {  // not all to the same rank first
    const int rank = (rank_ + step) % ranks_;
    sends.push_back({rank, at(rank), static_cast<size_t>(left(rank)) * size_of(dtype)});
  }
  round.exchange = mesh_.start(sends, receives);
  bytes_sent_ += bytes_of(sends);
  return round;
}

// own = the sum over the ranks of this rank's piece. While one round is summed the next is on its way.
void HostCollectives::reduce_pieces(const std::vector<Piece>& pieces, std::byte* own, DType dtype) {
  const int64_t size = round_size(dtype);
  int64_t longest = 0;
  for (const Piece& piece : pieces) longest = std::max(longest, piece.count);
  if (longest == 0) return;
  Round next = start_round(pieces, dtype, 0, std::min(size, longest), 0);
  size_t half = 0;
  for (int64_t begin = 0; begin < longest; begin += size) {
    Round round = std::move(next);
    half = 1 - half;
    if (begin + size < longest) next = start_round(pieces, dtype, begin + size, size, half);
    mesh_.wait_receives(round.exchange);
    sum_in_order(round.summands, own + static_cast<size_t>(begin) * size_of(dtype), round.count, dtype);
    mesh_.wait_sends(round.exchange);
  }
}

void HostCollectives::gather_pieces(const std::vector<Piece>& pieces, DType dtype) {
  const auto block = [&](int to, int of) {
    const Piece& piece = pieces[static_cast<size_t>(of)];
    return Block{to, piece.data, static_cast<size_t>(piece.count) * size_of(dtype)};
  };
  std::vector<Block> sends, receives;
  for (int step = 1; step < ranks_; ++step) {
    const int to = (rank_ + step) % ranks_, from = (rank_ + ranks_ - step) % ranks_;
    sends.push_back(block(to, rank_));
    receives.push_back(block(from, from));
  }
  exchange(sends, receives);
}

void HostCollectives::all_reduce_sum(const Tensor& tensor) {
  begin(Kind::all_reduce, tensor.bytes(), static_cast<int>(tensor.dtype));
  std::vector<Piece> pieces;
  for (int rank = 0; rank < ranks_; ++rank) {
    const int64_t first = tensor.count() * rank / ranks_, last = tensor.count() * (rank + 1) / ranks_;
    pieces.push_back(
        {static_cast<std::byte*>(tensor.data) + static_cast<size_t>(first) * size_of(tensor.dtype),
         last - first});
  }
  reduce_pieces(pieces, pieces[static_cast<size_t>(rank_)].data, tensor.dtype);
  gather_pieces(pieces, tensor.dtype);
}

void HostCollectives::reduce_scatter_sum(const Tensor& parts, const Tensor& own) {
  begin(Kind::reduce_scatter, parts.bytes(), static_cast<int>(parts.dtype));
  std::vector<Piece> pieces;
  for (int rank = 0; rank < ranks_; ++rank)
    pieces.push_back(
        {static_cast<std::byte*>(parts.data) + static_cast<size_t>(rank) * own.bytes(), own.count()});
  reduce_pieces(pieces, static_cast<std::byte*>(own.data), parts.dtype);
}

void HostCollectives::all_to_all(const Tensor& parts, const Tensor& arrived) {
  begin(Kind::all_to_all, parts.bytes(), static_cast<int>(parts.dtype));
  const size_t bytes = parts.bytes() / static_cast<size_t>(ranks_);
  const auto row = [bytes](const Tensor& of, int rank) {
    return static_cast<std::byte*>(of.data) + static_cast<size_t>(rank) * bytes;
  };
  std::memcpy(row(arrived, rank_), row(parts, rank_), bytes);
  std::vector<Block> sends, receives;
  for (int step = 1; step < ranks_; ++step) {  // not all to the same rank first
    const int to = (rank_ + step) % ranks_, from = (rank_ + ranks_ - step) % ranks_;
    sends.push_back({to, row(parts, to), bytes});
    receives.push_back({from, row(arrived, from), bytes});
  }
  exchange(sends, receives);
}

void HostCollectives::all_gather(const Tensor& parts) {
  begin(Kind::all_gather, parts.bytes(), static_cast<int>(parts.dtype));
  const int64_t count = parts.count() / ranks_;
  std::vector<Piece> pieces;
  for (int rank = 0; rank < ranks_; ++rank)
    pieces.push_back({static_cast<std::byte*>(parts.data) +
                          static_cast<size_t>(rank) * static_cast<size_t>(count) * size_of(parts.dtype),
                      count});
  gather_pieces(pieces, parts.dtype);
}

// The root gives every rank a piece, and then all but the root gather the pieces: no rank sends more than
// twice the whole.
void HostCollectives::broadcast(std::span<std::byte> bytes, int root) {
  begin(Kind::broadcast, bytes.size(), root);
  const auto piece = [&](int to, int of) {
    const size_t first = bytes.size() * static_cast<size_t>(of) / static_cast<size_t>(ranks_);
    const size_t last = bytes.size() * static_cast<size_t>(of + 1) / static_cast<size_t>(ranks_);
    return Block{to, bytes.data() + first, last - first};
  };
  std::vector<Block> sends, receives;
  for (int rank = 0; rank < ranks_; ++rank)
    if (rank_ == root && rank != root) sends.push_back(piece(rank, rank));
  if (rank_ != root) receives.push_back(piece(root, rank_));
  exchange(sends, receives);
  sends.clear();
  receives.clear();
  for (int rank = 0; rank < ranks_; ++rank) {
    if (rank == rank_) continue;
    if (rank != root) sends.push_back(piece(rank, rank_));
    if (rank_ != root) receives.push_back(piece(rank, rank));
  }
  exchange(sends, receives);
}

std::vector<std::string> HostCollectives::all_gather_text(const std::string& own) {
  if (own.size() > kMaxText) fail("a text of {} bytes; at most {}", own.size(), kMaxText);
  begin(Kind::text, 0, 0);
  std::vector<uint64_t> sizes(static_cast<size_t>(ranks_));
  sizes[static_cast<size_t>(rank_)] = own.size();
  std::vector<std::string> texts(static_cast<size_t>(ranks_));
  std::vector<Block> sends, receives;
  for (int rank = 0; rank < ranks_; ++rank) {
    if (rank == rank_) continue;
    sends.push_back({rank, &sizes[static_cast<size_t>(rank_)], sizeof(uint64_t)});
    receives.push_back({rank, &sizes[static_cast<size_t>(rank)], sizeof(uint64_t)});
  }
  mesh_.exchange(sends, receives);
  sends.clear();
  receives.clear();
  texts[static_cast<size_t>(rank_)] = own;
  for (int rank = 0; rank < ranks_; ++rank) {
    if (rank == rank_) continue;
    std::string& text = texts[static_cast<size_t>(rank)];
    text.resize(std::min(sizes[static_cast<size_t>(rank)], kMaxText));
    sends.push_back({rank, texts[static_cast<size_t>(rank_)].data(), own.size()});
    receives.push_back({rank, text.data(), text.size()});
  }
  mesh_.exchange(sends, receives);
  return texts;
}

}  // namespace polar

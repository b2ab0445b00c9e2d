#include "train/parameters.h"

#include <map>

#include "eval/load_model.h"

namespace polar {
namespace {

// Calls take(piece, its place in own_parameters) for all pieces of this rank.
template <class Take>
void for_own_pieces(const RunPlan& plan, const Tensor& own, const Take& take) {
  for (size_t b = 0; b < plan.shards->buckets().size(); ++b)
    for (const Bucket::Piece& piece : plan.shards->buckets()[b].pieces)
      if (piece.owner == plan.topology.rank)
        take(piece, own.slice(plan.shards->own_offset(b) + piece.position, {piece.count}));
}

// The rank's pieces of whole parameters that come one after the other, in the order of their indices.
class OwnPieces {
 public:
  OwnPieces(Ops& ops, RunPlan& plan, const Tensor& own) : ops_(ops), plan_(plan) {
    ops.fill(own, 0.0);
    for_own_pieces(plan, own, [&](const Bucket::Piece& piece, const Tensor& place) {
      pieces_.emplace(piece.parameter, std::pair{piece, place});
    });
  }
  void take(int parameter, const float* values) {
    const auto [begin, end] = pieces_.equal_range(parameter);
    for (auto at = begin; at != end; ++at) {
      const auto& [piece, place] = at->second;
      ops_.upload(place, values + piece.begin);
      ops_.cast(place, plan_.model.weight(parameter).slice(piece.begin, {piece.count}));
    }
  }

 private:
  Ops& ops_;
  RunPlan& plan_;
  std::multimap<int, std::pair<Bucket::Piece, Tensor>> pieces_;  // by parameter
};

}  // namespace

Tensor trained_parameters(const RunPlan& plan, const PlannedMemory& device) {
  return plan.own_parameters ? device[plan.own_parameters] : plan.model.parameters();
}

void initialize_parameters(Ops& ops, RunPlan& plan, const PlannedMemory& device, uint64_t seed) {
  if (!plan.own_parameters) return plan.model.initialize(seed);
  OwnPieces own(ops, plan, device[plan.own_parameters]);
  for (int i = 0; i < static_cast<int>(plan.model.registry().parameters().size()); ++i)
    own.take(i, plan.model.initial_values(i, seed).data());
}

void load_parameters(Ops& ops, RunPlan& plan, const PlannedMemory& device,
                     const std::filesystem::path& directory) {
  if (!plan.own_parameters) return load_weights(ops, plan.model, directory);
  OwnPieces own(ops, plan, device[plan.own_parameters]);
  read_weights(plan.model, DType::f32, directory,
               [&](int index, const void* values) { own.take(index, static_cast<const float*>(values)); });
}

void snapshot_parameters(Ops& ops, const RunPlan& plan, const PlannedMemory& device,
                         const PlannedMemory& host, ShardExchange* exchange) {
  const Tensor snapshot = host[plan.snapshot_parameters];
  if (!plan.own_parameters) {
    for (const RunPlan::Written& written : plan.written) {
      const Tensor parameter = plan.model.parameter(written.parameter);
      ops.download_queued(snapshot.slice(written.offset, parameter.shape).data, parameter);
    }
    return;
  }
  std::map<int, int64_t> places;  // of those that this rank writes
  for (const RunPlan::Written& written : plan.written) places[written.parameter] = written.offset;
  const auto take = [&](const Bucket::Piece& piece, const Tensor& values) {
    if (const auto place = places.find(piece.parameter); place != places.end())
      ops.download_queued(snapshot.slice(place->second + piece.begin, {piece.count}).data, values);
  };
  exchange->gather_parameters(take);
  for (size_t b = 0; b < plan.shards->matrix_buckets(); ++b)
    for (const Bucket::Piece& piece : plan.shards->buckets()[b].pieces)
      if (piece.owner == plan.topology.rank)
        take(piece,
             device[plan.own_parameters].slice(plan.shards->own_offset(b) + piece.position, {piece.count}));
}

}  // namespace polar

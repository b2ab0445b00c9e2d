#include "train/shard_exchange.h"

namespace polar {
namespace {

// Where a piece lies in a bucket's buffer (ranks, part).
Tensor place_of(const Bucket::Piece& piece, const Tensor& parts) {
  return parts.slice(piece.owner * parts.shape[1] + piece.position, {piece.count});
}

// Where it lies in a flat buffer of the registry's layout.
Tensor place_of(const Bucket::Piece& piece, const Tensor& flat, const ParameterRegistry& registry) {
  return flat.slice(registry[piece.parameter].offset + piece.begin, {piece.count});
}

}  // namespace

ShardExchange::ShardExchange(Ops& ops, Communicator& comm, const RunPlan& plan, const PlannedMemory& device)
    : ops_(ops), comm_(comm), plan_(plan), own_gradients_(device[plan.own_gradients]) {
  for (size_t i = 0; i < buffers_.size(); ++i) {
    buffers_[i] = device[plan.travelling[i]];
    arrived_[i] = comm.make_mark();
  }
  scalar_arrived_ = comm.make_mark();
}

ShardExchange::~ShardExchange() {
  for (const auto* mark : {arrived_[0].get(), arrived_[1].get(), scalar_arrived_.get()}) try {
      ops_.wait(*mark);
    } catch (const std::exception&) {  // whoever waited for it has been told
    }
}

Tensor ShardExchange::next_buffer(const Bucket& bucket) {
  turn_ = (turn_ + 1) % buffers_.size();
  ops_.follow(*arrived_[turn_]);
  return buffers_[turn_].slice(0, {plan_.topology.world_size, bucket.part});
}

void ShardExchange::wait_for_all() {
  for (const auto& mark : arrived_) ops_.follow(*mark);
}

void ShardExchange::reduce_gradients() {
  const ParameterRegistry& registry = plan_.model.registry();
  const std::vector<Bucket>& buckets = plan_.shards->buckets();
  for (size_t b = 0; b < buckets.size(); ++b) {
    const Tensor parts = next_buffer(buckets[b]);
    ops_.fill(parts, 0.0);  // padding counts in the norm
    for (const Bucket::Piece& piece : buckets[b].pieces)
      ops_.copy(place_of(piece, plan_.model.gradients(), registry), place_of(piece, parts));
    const Tensor own = own_gradients_.slice(plan_.shards->own_offset(b), {buckets[b].part});
    comm_.reduce_scatter_sum(parts, own, "gradients of " + buckets[b].name, *arrived_[turn_]);
  }
  wait_for_all();
}

void ShardExchange::gather_parameters() {
  const ParameterRegistry& registry = plan_.model.registry();
  const std::vector<Bucket>& buckets = plan_.shards->buckets();
  const auto unpack = [&](const Bucket& bucket, const Tensor& parts) {
    for (const Bucket::Piece& piece : bucket.pieces)
      if (piece.owner != plan_.topology.rank)
        ops_.copy(place_of(piece, parts), place_of(piece, plan_.model.parameters(), registry));
  };
  // A bucket is unpacked while the next one travels.
  Tensor before;
  for (size_t b = 0; b < buckets.size(); ++b) {
    const Tensor parts = next_buffer(buckets[b]);
    for (const Bucket::Piece& piece : buckets[b].pieces)
      if (piece.owner == plan_.topology.rank)
        ops_.copy(place_of(piece, plan_.model.parameters(), registry), place_of(piece, parts));
    comm_.all_gather(parts, "parameters of " + buckets[b].name, *arrived_[turn_]);
    if (before) {
      ops_.follow(*arrived_[(turn_ + 1) % buffers_.size()]);
      unpack(buckets[b - 1], before);
    }
    before = parts;
  }
  wait_for_all();
  if (before) unpack(buckets.back(), before);
}

void ShardExchange::reduce_scalar(const Tensor& scalar, const char* name) {
  comm_.all_reduce_sum(scalar, name, *scalar_arrived_);
  ops_.follow(*scalar_arrived_);
}

}  // namespace polar

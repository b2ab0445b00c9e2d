#include "train/shard_exchange.h"

#include <algorithm>
#include <set>
#include <utility>

namespace polar {
namespace {

// Where a piece lies in a bucket's buffer (ranks, part).
Tensor place_of(const Bucket::Piece& piece, const Tensor& parts) {
  return parts.slice(piece.owner * parts.shape[1] + piece.position, {piece.count});
}

// Its elements of a whole parameter.
Tensor elements_of(const Bucket::Piece& piece, const Tensor& parameter) {
  return parameter.slice(piece.begin, {piece.count});
}

void convert(Ops& ops, const Tensor& from, const Tensor& to) {
  if (from.dtype == to.dtype)
    ops.copy(from, to);
  else
    ops.cast(from, to);
}

}  // namespace

ShardExchange::ShardExchange(Ops& ops, Communicator& comm, const RunPlan& plan, const PlannedMemory& device,
                             const PairwiseSum* pairs)
    : ops_(ops),
      comm_(comm),
      plan_(plan),
      pairs_(pairs),
      own_gradients_(device[plan.own_gradients]),
      own_parameters_(device[plan.own_parameters]),
      arrived_gradients_(device[plan.arrived_gradients]),
      in_place_(plan.shards_gradients || plan.gradient_dtype != DType::f32 || plan.invariant) {
  for (size_t i = 0; i < buffers_.size(); ++i) {
    buffers_[i] = device[plan.travelling[i]];
    arrived_[i] = comm.make_mark();
  }
  scalar_arrived_ = comm.make_mark();
  prepare_gradients(device);
  prepare_weights();
  weights_sent_ = weights_.size();
}

ShardExchange::~ShardExchange() {
  for (const auto* mark : {arrived_[0].get(), arrived_[1].get(), scalar_arrived_.get()}) try {
      ops_.wait(*mark);
    } catch (const std::exception&) {  // whoever waited for it has been told
    }
}

Tensor ShardExchange::buffer(size_t turn, DType dtype, const Bucket& bucket) const {
  return {buffers_[turn].data, dtype, {plan_.topology.world_size, bucket.part}};
}

// All buckets by their earliest (or latest) stage.
std::vector<ShardExchange::Journey> ShardExchange::journeys(int64_t (Model::*stage_of)(int) const,
                                                            bool latest, DType dtype) const {
  std::vector<Journey> all;
  for (size_t b = 0; b < plan_.shards->buckets().size(); ++b) {
    std::set<int64_t> stages;
    for (const Bucket::Piece& piece : plan_.shards->buckets()[b].pieces)
      stages.insert((plan_.model.*stage_of)(piece.parameter));
    Journey journey;
    journey.bucket = b;
    journey.stage = latest ? *stages.rbegin() : *stages.begin();
    all.push_back(std::move(journey));
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Journey& a, const Journey& b) { return a.stage < b.stage; });
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].turn = i % buffers_.size();
    all[i].parts = buffer(all[i].turn, dtype, bucket_of(all[i]));
  }
  return all;
}

std::vector<int64_t> ShardExchange::cuts() const {
  std::set<int64_t> cuts{0, plan_.model.stage_count()};
  for (const Journey& journey : weights_) cuts.insert(journey.stage);
  for (const Journey& journey : gradients_) cuts.insert(journey.stage + 1);
  return {cuts.begin(), cuts.end()};
}

// What travels in it has arrived and is where it belongs before anything that is queued from now on.
void ShardExchange::free_buffer(size_t turn) {
  ops_.follow(*arrived_[turn]);
  const UnderWay done = std::exchange(under_way_[turn], {});
  if (done.journey == nullptr || !done.journey->unpack) return;
  done.journey->unpack->run();
  // The sum over the ranks is one summand of the sum over the micro-steps.
  if (pairs_ != nullptr && plan_.shards_gradients && done.journey->arrived)
    pairs_->add(own_part(*done.journey), done.micro, plan_.micro_steps);
}

// --- weights, in the order of the forward pass ---

void ShardExchange::prepare_weights() {
  weights_ = journeys(&Model::first_use, false, plan_.model.weights().dtype);
  for (Journey& journey : weights_) {
    // Of this rank's pieces, or of those of the others.
    const auto each = [this, &bucket = bucket_of(journey), parts = journey.parts](bool own,
                                                                                  const auto& copy) {
      for (const Bucket::Piece& piece : bucket.pieces)
        if ((piece.owner == plan_.topology.rank) == own)
          copy(elements_of(piece, plan_.model.weight(piece.parameter)), place_of(piece, parts));
    };
    journey.pack = ops_.repeat([this, each] {
      each(true, [this](const Tensor& weight, const Tensor& part) { ops_.copy(weight, part); });
    });
    journey.unpack = ops_.repeat([this, each] {
      each(false, [this](const Tensor& weight, const Tensor& part) { ops_.copy(part, weight); });
    });
  }
}

void ShardExchange::send_weights() {
  weights_sent_ = 0;
  while (weights_sent_ < std::min(weights_.size(), buffers_.size())) send_next_weights();
}

void ShardExchange::send_next_weights() {
  const Journey& journey = weights_[weights_sent_++];
  free_buffer(journey.turn);
  journey.pack->run();
  comm_.all_gather(journey.parts, "weights of " + bucket_of(journey).name, *arrived_[journey.turn]);
  under_way_[journey.turn] = {&journey};
}

void ShardExchange::receive_weights(int64_t end) {
  for (const Journey& journey : weights_) {
    if (journey.stage >= end) return;
    if (under_way_[journey.turn].journey != &journey) continue;
    free_buffer(journey.turn);
    if (weights_sent_ < weights_.size()) send_next_weights();
  }
}

void ShardExchange::gather_parameters(const std::function<void(const Bucket::Piece&, const Tensor&)>& take) {
  receive_weights();
  for (size_t b = plan_.shards->matrix_buckets(); b < plan_.shards->buckets().size(); ++b) {
    const Bucket& bucket = plan_.shards->buckets()[b];
    free_buffer(0);
    const Tensor parts = buffer(0, DType::f32, bucket);
    ops_.copy(own_parameters_.slice(plan_.shards->own_offset(b), {bucket.part}),
              parts.slice(plan_.topology.rank * bucket.part, {bucket.part}));
    comm_.all_gather(parts, "parameters of " + bucket.name, *arrived_[0]);
    ops_.follow(*arrived_[0]);
    for (const Bucket::Piece& piece : bucket.pieces) take(piece, place_of(piece, parts));
  }
}

// --- gradients, in the order of the backward pass ---

void ShardExchange::prepare_gradients(const PlannedMemory& device) {
  gradients_ = journeys(&Model::last_gradient, true, plan_.gradient_dtype);
  for (Journey& journey : gradients_) {
    if (plan_.invariant)
      journey.arrived = device[plan_.arrived_rows[journey.turn]].slice(0, journey.parts.shape);
    journey.pack = ops_.repeat([this, &journey] { pack_gradients(journey); });
    if (in_place_) journey.unpack = ops_.repeat([this, &journey] { take_own_part(journey); });
  }
}

// In the last micro-step: a gradient of this rank becomes the sum over all of its micro-steps.
void ShardExchange::sum_in_pairs(const Tensor& gradient) const {
  if (pairs_ != nullptr && !plan_.shards_gradients)
    pairs_->add(gradient, plan_.micro_steps - 1, plan_.micro_steps);
}

void ShardExchange::pack_gradients(const Journey& journey) const {
  ops_.fill(journey.parts, 0.0);  // padding counts in the norm
  for (const Bucket::Piece& piece : bucket_of(journey).pieces) {
    const Tensor gradient = elements_of(piece, plan_.model.gradient(piece.parameter));
    sum_in_pairs(gradient);
    convert(ops_, gradient, place_of(piece, journey.parts));
  }
  // The next bucket's layers, if there are more, add to the same window.
  if (plan_.gradient_window > 0 && journey.bucket < plan_.shards->matrix_buckets())
    ops_.fill(plan_.model.gradients().slice(0, {plan_.gradient_window}), 0.0);
}

Tensor ShardExchange::own_part(const Journey& journey) const {
  return own_gradients_.slice(plan_.shards->own_offset(journey.bucket), {bucket_of(journey).part});
}

Tensor ShardExchange::row_of_this_rank(const Journey& journey) const {
  const int64_t part = bucket_of(journey).part;
  return journey.parts.slice(plan_.topology.rank * part, {part});
}

void ShardExchange::take_own_part(const Journey& journey) const {
  const Tensor own = own_part(journey);
  if (plan_.invariant) {
    PairwiseSum::sum_rows(ops_, journey.arrived);
    return ops_.copy(journey.arrived.slice(0, own.shape), own);
  }
  Tensor arrived = row_of_this_rank(journey);
  if (!plan_.shards_gradients) return convert(ops_, arrived, own);
  if (arrived.dtype != own.dtype) {
    const Tensor wide = arrived_gradients_.slice(0, arrived.shape);
    ops_.cast(arrived, wide);
    arrived = wide;
  }
  ops_.axpby(1.0, arrived, 1.0, own);
}

void ShardExchange::clear_gradients() {
  if (plan_.shards_gradients) ops_.fill(own_gradients_, 0.0);
}

void ShardExchange::send_gradients(int64_t end, int64_t micro) {
  while (gradients_sent_ < gradients_.size() && gradients_[gradients_sent_].stage < end) {
    const Journey& journey = gradients_[gradients_sent_++];
    free_buffer(journey.turn);
    journey.pack->run();
    const std::string name = "gradients of " + bucket_of(journey).name;
    if (plan_.invariant)
      comm_.all_to_all(journey.parts, journey.arrived, name, *arrived_[journey.turn]);
    else
      comm_.reduce_scatter_sum(journey.parts, in_place_ ? row_of_this_rank(journey) : own_part(journey), name,
                               *arrived_[journey.turn]);
    under_way_[journey.turn] = {&journey, micro};
  }
  if (gradients_sent_ == gradients_.size()) gradients_sent_ = 0;
}

void ShardExchange::receive_gradients() {
  for (size_t turn = 0; turn < buffers_.size(); ++turn) free_buffer(turn);
}

void ShardExchange::reduce_scalars(const Tensor& scalars, const char* name) {
  comm_.all_reduce_sum(scalars, name, *scalar_arrived_);
  ops_.follow(*scalar_arrived_);
}

}  // namespace polar

// What a training step costs a rank on described hardware (config/hardware.h): seconds of the model's parts,
// of the optimizer, of a collective operation. A product takes the longer of its FLOPs and its bytes, what is
// bound by memory takes its bytes, and every kernel its launch. FLOPs and bytes are those that `polartrain
// bench` counts, so that the shares of a hardware file can be taken from there.
//
// Left out: the host, the data loader, effects of shapes on the rate of a product, and that communication
// takes some of the device's rate from what is computed beside it.
#pragma once

#include <cstdint>
#include <vector>

#include "config/hardware.h"
#include "model/config.h"
#include "optim/config.h"
#include "optim/shard_plan.h"
#include "tensor/registry.h"

namespace polar {

// Rates of one rank: FLOPs and bytes a second, seconds a kernel.
struct DeviceRates {
  double gemm = 0.0, attention = 0.0;            // in the format of the activations
  double polar_full = 0.0, polar_reduced = 0.0;  // fp32 products; where oracle.products is reduced
  double memory = 0.0;
  double launch = 0.0;
};
// With `busy` devices of the node at work, 1 .. node.devices. `bf16`: of the activations.
DeviceRates rates_of(const Hardware& hardware, int64_t busy, bool bf16);

// Seconds by kind.
struct Cost {
  double gemm = 0.0, attention = 0.0, memory = 0.0, launches = 0.0;

  double sum() const { return gemm + attention + memory + launches; }
  Cost& operator+=(const Cost& other);
  friend Cost operator*(double factor, const Cost& cost);
};

struct ModelBatchSize {
  int64_t sequences = 1, time = 1;
  int64_t element = 4;  // bytes of an activation
  Recompute recompute = Recompute::none;
};

// One micro-batch. `head`: final norm, logits, loss and their backward pass; `layer_backward` includes what
// is computed again.
struct ModelCost {
  Cost embedding, layer, head, layer_backward, embedding_backward;
};
ModelCost model_cost(const ModelConfig& model, const ModelBatchSize& batch, const DeviceRates& rates);

// The optimizer's part of a step on one rank.
struct UpdateCost {
  double polar = 0.0;         // products of polar factors
  double element_wise = 0.0;  // AdamW, momenta, applying the directions, the gradient norm
  double launches = 0.0;

  double sum() const { return polar + element_wise + launches; }
};
// On every rank (with no plan: of the only one), by the owners of the sharding plan. `optimizer`: products
// resolved to "full" or "reduced". `weight_copy`: bytes a parameter of a rounded copy (0: none). Error (exit
// code 2): an oracle or a type whose rate is not known: what factorizes, Shampoo and SOAP.
std::vector<UpdateCost> update_costs(const OptimizerConfig& optimizer, const ParameterRegistry& registry,
                                     const ShardPlan* shards, int64_t weight_copy, const DeviceRates& rates);

int64_t nodes_of(const Hardware& hardware, int ranks);

// A reduce-scatter or all-gather in which every rank sends ranks - 1 parts of `part_bytes` around a ring. The
// slowest link carries them: a device's own, or, between nodes, all network cards of a node together; to this
// come the latencies of ranks - 1 messages, nodes - 1 of which cross the network. Error (exit code 2): more
// ranks than a node has devices, and no network.
double collective_seconds(const Hardware& hardware, int ranks, double part_bytes);
// The sum of a number over the ranks: latencies alone, twice around the ring.
double scalar_seconds(const Hardware& hardware, int ranks);

}  // namespace polar

// From batches in host memory (data) to micro-batches in device memory (model).
#pragma once

#include "data/loader.h"
#include "model/model.h"
#include "ops/ops.h"

namespace polar {

// Arrays of one micro-batch; document_starts is empty when documents are not masked.
struct BatchTensors {
  Tensor ids, targets, document_starts;
};

// The host arrays of a batch of `sequences` as the loader fills them.
inline Batch host_batch(const BatchTensors& host, int64_t sequences, int64_t time) {
  Batch batch;
  batch.sequences = sequences;
  batch.sequence_length = time;
  batch.ids = host.ids.as<int32_t>();
  batch.targets = host.targets.as<int32_t>();
  batch.document_starts = host.document_starts.as<int32_t>();
  return batch;
}

// Queues the copy of rows [first, first + count) of a host batch to the device; returns them as the model
// reads them.
inline ModelBatch upload_batch(Ops& ops, const Batch& host, int64_t first, int64_t count,
                               const BatchTensors& device) {
  const int64_t time = host.sequence_length;
  const auto copy = [&](const int32_t* from, const Tensor& to, Shape shape) {
    const Tensor part = to.slice(0, shape);
    ops.upload(part, from + first * time);
    return part;
  };
  ModelBatch batch;
  batch.batch = count;
  batch.time = time;
  batch.ids = copy(host.ids, device.ids, {count * time});
  batch.targets = copy(host.targets, device.targets, {count * time});
  if (device.document_starts)
    batch.document_starts = copy(host.document_starts, device.document_starts, {count, time});
  return batch;
}

}  // namespace polar

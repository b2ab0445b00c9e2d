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

// `count` sequences in device memory as the model reads them.
inline ModelBatch model_batch(const BatchTensors& device, int64_t count, int64_t time) {
  ModelBatch batch;
  batch.batch = count;
  batch.time = time;
  batch.ids = device.ids.slice(0, {count * time});
  batch.targets = device.targets.slice(0, {count * time});
  if (device.document_starts) batch.document_starts = device.document_starts.slice(0, {count, time});
  return batch;
}

// Rows [first, first + batch.batch) of a host batch, array by array, to where the model reads them:
// copy(to, from).
template <class Copy>
void copy_batch(const Batch& host, int64_t first, const ModelBatch& batch, const Copy& copy) {
  const int64_t begin = first * host.sequence_length;
  copy(batch.ids, host.ids + begin);
  copy(batch.targets, host.targets + begin);
  if (batch.document_starts) copy(batch.document_starts, host.document_starts + begin);
}

// Uploads rows [first, first + count) of a host batch; returns them as the model reads them.
inline ModelBatch upload_batch(Ops& ops, const Batch& host, int64_t first, int64_t count,
                               const BatchTensors& device) {
  const ModelBatch batch = model_batch(device, count, host.sequence_length);
  copy_batch(host, first, batch, [&](const Tensor& to, const int32_t* from) { ops.upload(to, from); });
  return batch;
}

}  // namespace polar

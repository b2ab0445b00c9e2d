// The arrays of one batch, for tests.
#pragma once

#include <vector>

#include "data/loader.h"

namespace polar::test {

struct BatchBuffers {
  std::vector<int32_t> ids, targets, document_starts;
  int64_t sequences, sequence_length;

  BatchBuffers(int64_t count, int64_t length)
      : ids(static_cast<size_t>(count * length), -7),
        targets(ids),
        document_starts(ids),
        sequences(count),
        sequence_length(length) {}
  Batch view() {
    return {.sequences = sequences,
            .sequence_length = sequence_length,
            .ids = ids.data(),
            .targets = targets.data(),
            .document_starts = document_starts.data()};
  }
  bool operator==(const BatchBuffers&) const = default;
};

}  // namespace polar::test

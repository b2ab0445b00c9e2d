// What a matrix group works on: the matrices that its oracle sees, in batches of one shape.
#pragma once

#include <cstdint>
#include <vector>

#include "optim/group.h"

namespace polar {

// A parameter, one head of it, or (for oracles that take vectors) a vector, or a range of what is cut, as a
// matrix of one row.
struct MatrixPart {
  size_t member;      // of the group
  Shape shape;        // (m, n)
  Shape sides;        // of the matrix that a range is of, or of one head of it; else shape
  int64_t offset;     // in the parameter buffer
  int64_t gradient;   // in the gradient buffer
  int64_t weight;     // in the weight buffer
  bool first = true;  // of its member
};

// Parts of one shape and equal sides that the oracle takes together. Their momenta lie one after the other,
// from `state_offset` on, and so do their neurons' second moments from `neuron_offset` on.
struct MatrixBatch {
  size_t begin = 0, end = 0;  // of the parts
  int64_t state_offset = 0, neuron_offset = 0;
  Shape shape;  // (end - begin, m, n)
  int64_t neurons() const { return shape[0] * (shape[1] > shape[2] ? shape[1] : shape[2]); }
};

// The parts of all members, equal ones behind each other in the order of their first appearance; those of
// one member stay neighbours.
std::vector<MatrixPart> matrix_parts(const std::vector<Member>& members, bool per_head);
// `max_bytes`: of the elements of a batch, `element_bytes` each; a single larger matrix is a batch by itself.
std::vector<MatrixBatch> matrix_batches(const std::vector<MatrixPart>& parts, size_t element_bytes,
                                        int64_t max_bytes);

}  // namespace polar

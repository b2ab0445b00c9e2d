// Copies between strided matrices.
#include <cstring>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"

namespace polar::cpu {

void copy_rows(const MatrixView& from, const MatrixView& to) {
  require(from.dtype == to.dtype && from.rows == to.rows && from.cols == to.cols, "copy_rows: equal shapes");
  const size_t width = static_cast<size_t>(from.cols) * size_of(from.dtype);
  for (int64_t row = 0; row < from.rows; ++row) std::memcpy(to.row(row), from.row(row), width);
}

}  // namespace polar::cpu

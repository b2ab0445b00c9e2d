// The exact orthogonal factor from LAPACK's divide-and-conquer SVD. It is computed in f64 for f32 matrices as
// well: in f32 the factor of an ill-conditioned gradient would be off by far more than 1e-6.
#include <algorithm>
#include <limits>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/gemm_product.h"
#include "backend/cpu/lapack.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

constexpr int64_t kMaximumSlots = 16;  // matrices at work at the same time, each with its own scratch space

// A row-major (rows, cols) matrix is a column-major (cols, rows) one: LAPACK sees x^T = V S U^T. The scratch
// space of one matrix holds, in f64 and in this order:
struct Slot {
  double* matrix;    // (cols, rows): x^T, later the factor
  double* left;      // (cols, short side): V
  double* right;     // (short side, rows): U^T
  double* singular;  // (short side)
  double* work;
  blasint* integers;
};

struct SvdShape {
  blasint rows, cols, small;
  blasint work;  // elements of LAPACK's workspace

  SvdShape(int64_t rows_, int64_t cols_)
      : rows(static_cast<blasint>(rows_)),
        cols(static_cast<blasint>(cols_)),
        small(std::min(rows, cols)),
        work(0) {
    const blasint query = -1;
    double optimal = 0.0, unused = 0.0;
    blasint integers = 0, info = 0;
    dgesdd_("S", &cols, &rows, &unused, &cols, &unused, &unused, &cols, &unused, &small, &optimal, &query,
            &integers, &info);
    require(info == 0, "polar_svd: LAPACK accepts the shape");
    work = static_cast<blasint>(optimal) + 1;
  }

  size_t elements() const {  // of a slot, in units of f64; 8 * small integers for dgesdd
    const auto r = static_cast<size_t>(rows), c = static_cast<size_t>(cols), s = static_cast<size_t>(small);
    const size_t integers = (8 * s * sizeof(blasint) + sizeof(double) - 1) / sizeof(double);
    const size_t sum = r * c + c * s + s * r + s + static_cast<size_t>(work) + integers;
    return (sum + 31) / 32 * 32;  // slots stay aligned to 256 bytes
  }

  Slot slot(double* memory) const {
    Slot out{};
    out.matrix = memory;
    out.left = out.matrix + static_cast<int64_t>(rows) * cols;
    out.right = out.left + static_cast<int64_t>(cols) * small;
    out.singular = out.right + static_cast<int64_t>(small) * rows;
    out.work = out.singular + small;
    out.integers = reinterpret_cast<blasint*>(out.work + work);
    return out;
  }
};

int64_t slot_count(int64_t batch) {
  return std::min(batch, kMaximumSlots);
}

// u = the orthogonal factor of x; returns LAPACK's info (0: done).
template <class T>
blasint orthogonal_factor(const SvdShape& shape, const Slot& slot, const T* x, T* u) {
  const int64_t count = static_cast<int64_t>(shape.rows) * shape.cols;
  if (!all_finite(x, count)) return -4;  // what LAPACK says of such a matrix, if it notices
  std::copy(x, x + count, slot.matrix);
  blasint info = 0;
  dgesdd_("S", &shape.cols, &shape.rows, slot.matrix, &shape.cols, slot.singular, slot.left, &shape.cols,
          slot.right, &shape.small, slot.work, &shape.work, slot.integers, &info);
  if (info != 0) return info;
  // The zero matrix has threshold 0, and its zero singular values are not above it.
  const double threshold =
      shape.small * static_cast<double>(std::numeric_limits<T>::epsilon()) * slot.singular[0];
  blasint rank = 0;  // singular values come in descending order
  while (rank < shape.small && slot.singular[rank] > threshold) ++rank;
  // In row-major terms: factor (rows, cols) = U (rows, rank) V^T (rank, cols).
  multiply(MatrixProduct<double>{.rows = shape.rows,
                                 .cols = shape.cols,
                                 .depth = rank,
                                 .alpha = 1.0,
                                 .a = {slot.right, shape.small, false},
                                 .b = {slot.left, shape.cols, false},
                                 .beta = 0.0,
                                 .addend = nullptr,
                                 .addend_stride = 0,
                                 .c = slot.matrix,
                                 .c_stride = shape.cols});
  std::transform(slot.matrix, slot.matrix + count, u, [](double value) { return static_cast<T>(value); });
  return 0;
}

}  // namespace

void polar_svd(const Tensor& x, const Tensor& u, const Tensor& workspace, const Tensor& values) {
  require(x.shape.rank() == 3 && x.shape == u.shape && x.dtype == u.dtype,
          "polar_svd: x and u (batch, m, n), one dtype");
  require(!values ||
              (values.dtype == DType::f64 && values.count() == x.shape[0] * std::min(x.shape[1], x.shape[2])),
          "polar_svd: values F64 (batch, min(m, n))");
  const int64_t batch = x.shape[0], count = x.shape[1] * x.shape[2];
  const SvdShape shape(x.shape[1], x.shape[2]);
  const int64_t slots = slot_count(batch);
  require(workspace.bytes() >= polar_svd_workspace(batch, x.shape[1], x.shape[2], x.dtype),
          "polar_svd: workspace too small");
  blasint failures[kMaximumSlots] = {};
  dispatch(x.dtype, "polar_svd", [&]<class T>(T) {
    parallel_for(slots, [&](int64_t s) {
      const Slot slot = shape.slot(workspace.as<double>() + s * static_cast<int64_t>(shape.elements()));
      for (int64_t i = s; i < batch && failures[s] == 0; i += slots) {
        failures[s] = orthogonal_factor(shape, slot, x.as<const T>() + i * count, u.as<T>() + i * count);
        if (values) std::copy_n(slot.singular, shape.small, values.as<double>() + i * shape.small);
      }
    });
  });
  for (int64_t s = 0; s < slots; ++s)
    if (failures[s] != 0)
      fail(
          "polar_svd: LAPACK's dgesdd returned info {} for a matrix of {}: it holds NaN or infinity, or the "
          "iteration did not converge; use another oracle or a lower learning rate",
          failures[s], x.shape.text());
}

size_t polar_svd_workspace(int64_t batch, int64_t rows, int64_t cols, DType /*dtype*/) {
  return static_cast<size_t>(slot_count(batch)) * SvdShape(rows, cols).elements() * sizeof(double);
}

}  // namespace polar::cpu

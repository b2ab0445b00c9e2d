// Embedding: a gather of rows, and its deterministic transpose.
#include "kernels/embedding.h"

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::embedding_forward(const Tensor& ids, const Tensor& table, const MatrixView& out) {
  require(is(ids, DType::i32, out.rows) && table.shape.rank() == 2 && table.shape[1] == out.cols,
          "embedding_forward: ids I32 (N), table (V, C), out (N, C)");
  require(table.dtype == out.dtype, "embedding_forward: table and out share a dtype");
  dispatch(table.dtype, "embedding_forward", [&]<class T>(T) {
    CUDA_CHECK(kernels::embedding_forward(ids.as<const int32_t>(), table.as<const T>(), pointer<T>(out),
                                          out.stride, out.rows, out.cols, table.shape[0], stream_.get()));
  });
}

void CudaOps::embedding_backward(const Tensor& ids, const MatrixView& dout, const Tensor& dtable,
                                 const Tensor& workspace) {
  require(is(ids, DType::i32, dout.rows) && dtable.shape.rank() == 2 && dtable.shape[1] == dout.cols,
          "embedding_backward: ids I32 (N), dout (N, C), dtable (V, C)");
  require(dtable.dtype == DType::f32, "embedding_backward: dtable is F32");
  require(workspace.bytes() >= embedding_backward_workspace(dout.rows),
          "embedding_backward: workspace too small");
  dispatch(dout.dtype, "embedding_backward", [&]<class T>(T) {
    CUDA_CHECK(kernels::embedding_backward(ids.as<const int32_t>(), pointer<const T>(dout), dout.stride,
                                           dtable.as<float>(), dout.rows, dout.cols, dtable.shape[0],
                                           workspace.as<uint64_t>(), stream_.get()));
  });
}

size_t CudaOps::embedding_backward_workspace(int64_t rows) const {
  return static_cast<size_t>(kernels::embedding_backward_keys(rows)) * sizeof(uint64_t);
}

}  // namespace polar::cuda

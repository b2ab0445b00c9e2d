// cuBLASLt: handles, descriptors and their attributes.
#include <cstring>

#include "cublaslt.h"
#include "report.h"

namespace polar::emulator {
namespace {

// Sizes have to agree exactly, as the library demands.
template <class Field>
cublasStatus_t set(Field& field, const void* from, size_t bytes) {
  if (from == nullptr || bytes != sizeof(Field)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, from, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
template <class Field>
cublasStatus_t get(const Field& field, void* to, size_t bytes, size_t* written) {
  if (written != nullptr) *written = sizeof(Field);
  if (bytes == 0) return CUBLAS_STATUS_SUCCESS;
  if (to == nullptr || bytes != sizeof(Field)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(to, &field, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

// Calls use(field) with what an attribute names.
template <class Layout, class Use>
cublasStatus_t with_attribute(Layout& layout, cublasLtMatrixLayoutAttribute_t attribute, Use use) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE:
      return use(layout.type);
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
      return use(layout.order);
    case CUBLASLT_MATRIX_LAYOUT_ROWS:
      return use(layout.rows);
    case CUBLASLT_MATRIX_LAYOUT_COLS:
      return use(layout.cols);
    case CUBLASLT_MATRIX_LAYOUT_LD:
      return use(layout.leading);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return use(layout.batch_count);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return use(layout.batch_stride);
    default:
      note(fmt::format("cuBLASLt: layout attribute {} is not emulated", static_cast<int>(attribute)));
  }
  return CUBLAS_STATUS_NOT_SUPPORTED;
}

template <class Product, class Use>
cublasStatus_t with_attribute(Product& product, cublasLtMatmulDescAttributes_t attribute, Use use) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_COMPUTE_TYPE:
      return use(product.compute);
    case CUBLASLT_MATMUL_DESC_SCALE_TYPE:
      return use(product.scale_type);
    case CUBLASLT_MATMUL_DESC_POINTER_MODE:
      return use(product.pointer_mode);
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return use(product.transpose_a);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return use(product.transpose_b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return use(product.epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return use(product.bias);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE:
      return use(product.bias_batch_stride);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return use(product.bias_type);
    case CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET:
      return use(product.multiprocessors);
    default:
      note(fmt::format("cuBLASLt: product attribute {} is not emulated", static_cast<int>(attribute)));
  }
  return CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t set_preference(LtPreference& preference, cublasLtMatmulPreferenceAttributes_t attribute,
                              const void* from, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return set(preference.workspace_bytes, from, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return set(preference.alignment_a, from, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return set(preference.alignment_b, from, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return set(preference.alignment_c, from, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return set(preference.alignment_d, from, bytes);
    case CUBLASLT_MATMUL_PREF_SEARCH_MODE:
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
    case CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT:
    case CUBLASLT_MATMUL_PREF_IMPL_MASK:
      return CUBLAS_STATUS_SUCCESS;  // they narrow a real choice only
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

template <class State, class Opaque>
cublasStatus_t initialize(Opaque* opaque, size_t bytes, const State& state) {
  if (opaque == nullptr || bytes < sizeof(Opaque)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memset(opaque, 0, sizeof(Opaque));
  std::memcpy(opaque, &state, sizeof(State));
  return CUBLAS_STATUS_SUCCESS;
}

LtLayout layout_of(cudaDataType type, uint64_t rows, uint64_t cols, int64_t leading) {
  LtLayout layout;
  layout.type = type;
  layout.rows = rows;
  layout.cols = cols;
  layout.leading = leading;
  return layout;
}
LtProduct product_of(cublasComputeType_t compute, cudaDataType_t scale_type) {
  LtProduct product;
  product.compute = compute;
  product.scale_type = scale_type;
  return product;
}

}  // namespace
}  // namespace polar::emulator

using namespace polar::emulator;  // NOLINT: what follows are the C functions of cuBLASLt

struct cublasLtContext {
  int unused = 0;
};

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion() {
  return CUBLAS_VERSION;
}
size_t cublasLtGetCudartVersion() {
  return CUDART_VERSION;
}

static const char* status_name(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS_UNKNOWN";
  }
}
const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status_name(status);
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status_name(status);
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t bytes,
                                                 cudaDataType type, uint64_t rows, uint64_t cols,
                                                 int64_t leading) {
  return initialize(layout, bytes, layout_of(type, rows, cols, leading));
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t cols, int64_t leading) {
  *layout = new cublasLtMatrixLayoutOpaque_t;
  return initialize(*layout, sizeof(**layout), layout_of(type, rows, cols, leading));
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* from,
                                                size_t bytes) {
  return with_attribute(state_of<LtLayout>(layout), attribute,
                        [&](auto& field) { return set(field, from, bytes); });
}
cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, void* to,
                                                size_t bytes, size_t* written) {
  return with_attribute(state_of<LtLayout>(layout), attribute,
                        [&](const auto& field) { return get(field, to, bytes, written); });
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t product, size_t bytes,
                                               cublasComputeType_t compute, cudaDataType_t scale_type) {
  return initialize(product, bytes, product_of(compute, scale_type));
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* product, cublasComputeType_t compute,
                                        cudaDataType_t scale_type) {
  *product = new cublasLtMatmulDescOpaque_t;
  return initialize(*product, sizeof(**product), product_of(compute, scale_type));
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) {
  delete product;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t attribute, const void* from,
                                              size_t bytes) {
  return with_attribute(state_of<LtProduct>(product), attribute,
                        [&](auto& field) { return set(field, from, bytes); });
}
cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t attribute, void* to,
                                              size_t bytes, size_t* written) {
  return with_attribute(state_of<LtProduct>(product), attribute,
                        [&](const auto& field) { return get(field, to, bytes, written); });
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference, size_t bytes) {
  return initialize(preference, bytes, LtPreference{});
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return initialize(*preference, sizeof(**preference), LtPreference{});
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* from, size_t bytes) {
  return set_preference(state_of<LtPreference>(preference), attribute, from, bytes);
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute, void* to,
                                                    size_t bytes, size_t* written) {
  const LtAlgorithm& state = state_of<LtAlgorithm>(algorithm);
  constexpr uint32_t kOne = 1, kNone = 0;
  switch (attribute) {
    case CUBLASLT_ALGO_CONFIG_ID:
      return get(static_cast<int32_t>(state.id), to, bytes, written);
    case CUBLASLT_ALGO_CONFIG_SPLITK_NUM:
      return get(static_cast<int32_t>(kOne), to, bytes, written);
    case CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID:
    case CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID:
      return get(static_cast<uint16_t>(kNone), to, bytes, written);
    default:
      return get(kNone, to, bytes, written);
  }
}

}  // extern "C"

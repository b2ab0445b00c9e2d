// The replacement of cuBLASLt against products written out.
#include <cublasLt.h>

#include <bit>
#include <cmath>

#include "device_array.h"

namespace polar::emulator::test {
namespace {

constexpr cublasStatus_t kSuccess = CUBLAS_STATUS_SUCCESS;

uint16_t bf16_of(float value) {
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
}  // exact ones
float value_of(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

// A small integer for element i of a matrix: products are exact, and exact in BF16.
float element(int64_t i) {
  return static_cast<float>((i * 7) % 5 - 2);
}

struct Shape {
  cudaDataType_t type = CUDA_R_32F;
  int64_t rows = 0, cols = 0, leading = 0;
  cublasLtOrder_t order = CUBLASLT_ORDER_COL;
  int32_t batches = 1;
  int64_t batch_stride = 0;

  int64_t index(int64_t batch, int64_t row, int64_t col) const {
    return batch * batch_stride + (order == CUBLASLT_ORDER_ROW ? row * leading + col : col * leading + row);
  }
  size_t size() const { return static_cast<size_t>(index(batches - 1, rows - 1, cols - 1)) + 1; }
};

cublasLtMatrixLayout_t make_layout(const Shape& shape) {
  cublasLtMatrixLayout_t layout = nullptr;
  EXPECT_EQ(cublasLtMatrixLayoutCreate(&layout, shape.type, static_cast<uint64_t>(shape.rows),
                                       static_cast<uint64_t>(shape.cols), shape.leading),
            kSuccess);
  const auto set = [layout](cublasLtMatrixLayoutAttribute_t attribute, const auto& value) {
    EXPECT_EQ(cublasLtMatrixLayoutSetAttribute(layout, attribute, &value, sizeof value), kSuccess);
  };
  set(CUBLASLT_MATRIX_LAYOUT_ORDER, shape.order);
  set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, shape.batches);
  set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, shape.batch_stride);
  return layout;
}

// A matrix on the device, filled with element().
class Matrix {
 public:
  explicit Matrix(const Shape& shape) : shape_(shape), layout_(make_layout(shape)), words_(bytes() / 2) {
    std::vector<uint16_t> raw(bytes() / 2);
    for (size_t i = 0; i < shape.size(); ++i) {
      const float value = element(static_cast<int64_t>(i));
      if (shape.type == CUDA_R_16BF)
        raw[i] = bf16_of(value);
      else
        std::memcpy(&raw[2 * i], &value, sizeof value);
    }
    cudaMemcpy(words_.get(), raw.data(), bytes(), cudaMemcpyHostToDevice);
  }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;
  ~Matrix() { cublasLtMatrixLayoutDestroy(layout_); }
  void* data() const { return words_.get(); }
  cublasLtMatrixLayout_t layout() const { return layout_; }
  const Shape& shape() const { return shape_; }
  std::vector<float> read() const {
    const std::vector<uint16_t> raw = words_.read();
    std::vector<float> values(shape_.size());
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = value_of(raw[i]);
      if (shape_.type == CUDA_R_32F) std::memcpy(&values[i], &raw[2 * i], sizeof(float));
    }
    return values;
  }

 private:
  size_t bytes() const { return shape_.size() * (shape_.type == CUDA_R_16BF ? 2 : 4); }
  Shape shape_;
  cublasLtMatrixLayout_t layout_;
  DeviceArray<uint16_t> words_;
};

class CublasLt : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cublasLtCreate(&handle_), kSuccess);
    ASSERT_EQ(cublasLtMatmulDescCreate(&product_, CUBLAS_COMPUTE_32F, CUDA_R_32F), kSuccess);
    ASSERT_EQ(cublasLtMatmulPreferenceCreate(&preference_), kSuccess);
    const uint64_t bytes = workspace_bytes();
    ASSERT_EQ(cublasLtMatmulPreferenceSetAttribute(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                   &bytes, sizeof bytes),
              kSuccess);
  }
  void TearDown() override {
    cublasLtMatmulPreferenceDestroy(preference_);
    cublasLtMatmulDescDestroy(product_);
    cublasLtDestroy(handle_);
  }
  static size_t workspace_bytes() { return size_t{1} << 20; }

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    ASSERT_EQ(cublasLtMatmulDescSetAttribute(product_, attribute, &value, sizeof value), kSuccess);
  }
  std::vector<cublasLtMatmulHeuristicResult_t> proposals(const Matrix& a, const Matrix& b, const Matrix& c) {
    std::vector<cublasLtMatmulHeuristicResult_t> results(8);
    int found = 0;
    EXPECT_EQ(cublasLtMatmulAlgoGetHeuristic(handle_, product_, a.layout(), b.layout(), c.layout(),
                                             c.layout(), preference_, 8, results.data(), &found),
              kSuccess);
    results.resize(static_cast<size_t>(found));
    return results;
  }
  cublasStatus_t multiply(const void* alpha, const Matrix& a, const Matrix& b, const void* beta,
                          const Matrix& c, const cublasLtMatmulAlgo_t* algorithm) {
    return cublasLtMatmul(handle_, product_, alpha, a.data(), a.layout(), b.data(), b.layout(), beta,
                          c.data(), c.layout(), c.data(), c.layout(), algorithm, workspace_.get(),
                          workspace_bytes(), nullptr);
  }

  // c = 2 op(a) op(b) + beta c (+ bias), with every algorithm.
  void check(const Shape& a_shape, bool transpose_a, const Shape& b_shape, bool transpose_b,
             const Shape& c_shape, float beta, bool with_bias) {
    const float alpha = 2.0f;
    const Matrix a(a_shape), b(b_shape);
    set(CUBLASLT_MATMUL_DESC_TRANSA, transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    const DeviceArray<float> bias(std::vector<float>(static_cast<size_t>(c_shape.rows), 0.5f));
    const void* bias_pointer = bias.get();
    const int32_t bias_type = CUDA_R_32F;
    const uint32_t epilogue = with_bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias_pointer);
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias_type);
    const auto algorithms = proposals(a, b, Matrix(c_shape));
    EXPECT_EQ(algorithms.size(), 2u);  // the third needs more workspace
    for (const auto& proposal : algorithms) {
      const Matrix c(c_shape);
      ASSERT_EQ(multiply(&alpha, a, b, &beta, c, &proposal.algo), kSuccess);
      expect_product(a_shape, transpose_a, b_shape, transpose_b, c_shape, beta, with_bias ? 0.5f : 0.0f,
                     c.read());
    }
  }
  static void expect_product(const Shape& a, bool transpose_a, const Shape& b, bool transpose_b,
                             const Shape& c, float beta, float bias, const std::vector<float>& got) {
    const int64_t depth = transpose_a ? a.rows : a.cols;
    for (int32_t batch = 0; batch < c.batches; ++batch)
      for (int64_t row = 0; row < c.rows; ++row)
        for (int64_t col = 0; col < c.cols; ++col) {
          float want = beta * element(c.index(batch, row, col)) + bias;
          for (int64_t k = 0; k < depth; ++k)
            want += 2.0f * element(transpose_a ? a.index(batch, k, row) : a.index(batch, row, k)) *
                    element(transpose_b ? b.index(batch, col, k) : b.index(batch, k, col));
          ASSERT_EQ(got[static_cast<size_t>(c.index(batch, row, col))], want) << row << ", " << col;
        }
  }

  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t product_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  DeviceArray<char> workspace_{workspace_bytes()};
};

TEST_F(CublasLt, Fp32) {
  check({CUDA_R_32F, 5, 7, 6}, false, {CUDA_R_32F, 7, 3, 7}, false, {CUDA_R_32F, 5, 3, 8}, 0.0f, false);
  check({CUDA_R_32F, 7, 5, 8}, true, {CUDA_R_32F, 3, 7, 4}, true, {CUDA_R_32F, 5, 3, 5}, 1.0f, true);
}

TEST_F(CublasLt, Bf16) {
  check({CUDA_R_16BF, 5, 7, 6}, false, {CUDA_R_16BF, 3, 7, 3}, true, {CUDA_R_32F, 5, 3, 8}, 1.0f, false);
  check({CUDA_R_16BF, 7, 5, 8}, true, {CUDA_R_16BF, 7, 3, 7}, false, {CUDA_R_16BF, 5, 3, 5}, 0.0f, false);
}

TEST_F(CublasLt, RowsFirst) {
  check({CUDA_R_32F, 5, 7, 9, CUBLASLT_ORDER_ROW}, false, {CUDA_R_32F, 7, 3, 7}, false,
        {CUDA_R_32F, 5, 3, 4, CUBLASLT_ORDER_ROW}, 1.0f, true);
}

TEST_F(CublasLt, Batches) {
  check({CUDA_R_32F, 5, 7, 6, CUBLASLT_ORDER_COL, 3, 50}, false,
        {CUDA_R_32F, 7, 3, 7, CUBLASLT_ORDER_COL, 3, 0}, false,
        {CUDA_R_32F, 5, 3, 5, CUBLASLT_ORDER_COL, 3, 20}, 1.0f, false);
}

TEST_F(CublasLt, ScalarsOnTheDevice) {
  const DeviceArray<float> scalars(std::vector<float>{2.0f, 0.0f});
  const Shape square{CUDA_R_32F, 4, 4, 4};
  const Matrix a(square), b(square), c(square);
  set(CUBLASLT_MATMUL_DESC_POINTER_MODE, CUBLASLT_POINTER_MODE_DEVICE);
  ASSERT_EQ(multiply(scalars.get(), a, b, scalars.get() + 1, c, nullptr), kSuccess);
  expect_product(square, false, square, false, square, 0.0f, 0.0f, c.read());
}

TEST_F(CublasLt, RefusesWhatTheLibraryRefuses) {
  const float one = 1.0f, zero = 0.0f;
  const Matrix a({CUDA_R_32F, 4, 4, 4}), b({CUDA_R_32F, 4, 4, 4}), c({CUDA_R_32F, 4, 4, 4}),
      wide({CUDA_R_32F, 4, 5, 4});
  const auto proposal = proposals(a, b, c).at(1);
  EXPECT_EQ(multiply(&one, a, wide, &zero, wide, &proposal.algo),
            CUBLAS_STATUS_NOT_SUPPORTED);                                              // another problem
  EXPECT_EQ(multiply(&one, a, b, &zero, wide, nullptr), CUBLAS_STATUS_INVALID_VALUE);  // shapes
  const auto with_workspace = [&](size_t bytes) {
    return cublasLtMatmul(handle_, product_, &one, a.data(), a.layout(), b.data(), b.layout(), &zero,
                          c.data(), c.layout(), c.data(), c.layout(), &proposal.algo, workspace_.get(), bytes,
                          nullptr);
  };
  EXPECT_EQ(with_workspace(proposal.workspaceSize - 1), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(with_workspace(proposal.workspaceSize), kSuccess);
  cublasLtMatmulHeuristicResult_t checked;
  EXPECT_EQ(cublasLtMatmulAlgoCheck(handle_, product_, a.layout(), b.layout(), c.layout(), c.layout(),
                                    &proposal.algo, &checked),
            kSuccess);
  EXPECT_EQ(cublasLtMatmulAlgoCheck(handle_, product_, a.layout(), wide.layout(), wide.layout(),
                                    wide.layout(), &proposal.algo, &checked),
            CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(cublasLtMatmul(handle_, product_, &one, static_cast<char*>(a.data()) + 4, c.layout(), b.data(),
                           b.layout(), &zero, c.data(), c.layout(), c.data(), c.layout(), &proposal.algo,
                           workspace_.get(), workspace_bytes(), nullptr),
            CUBLAS_STATUS_NOT_SUPPORTED);  // less aligned than the preference said
}

TEST_F(CublasLt, IsQueuedOnItsStream) {
  const WithOptions restored;
  options().lazy_streams = true;
  const Shape square{CUDA_R_32F, 4, 4, 4};
  const float one = 2.0f, zero = 0.0f;
  const Matrix a(square), b(square), c(square);
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cublasLtMatmul(handle_, product_, &one, a.data(), a.layout(), b.data(), b.layout(), &zero,
                           c.data(), c.layout(), c.data(), c.layout(), nullptr, nullptr, 0, stream),
            kSuccess);
  EXPECT_EQ(c.read()[1], element(1));
  ASSERT_EQ(cudaStreamDestroy(stream), cudaSuccess);
  expect_product(square, false, square, false, square, 0.0f, 0.0f, c.read());
}

}  // namespace
}  // namespace polar::emulator::test

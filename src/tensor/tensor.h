// Views of typed memory. A Tensor never owns; the memory belongs to an Arena laid out by a MemoryPlan.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace polar {

enum class DType : uint8_t { f32, f64, bf16, i32 };

constexpr size_t size_of(DType type) {
  return type == DType::f64 ? 8 : type == DType::bf16 ? 2 : 4;
}
// safetensors' spelling: "F32", "F64", "BF16", "I32".
std::string_view name_of(DType type);

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};

// Up to four dimensions, row-major.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i)]; }
  int64_t count() const;
  bool operator==(const Shape&) const = default;
  std::string text() const;  // "[4096, 256]"

 private:
  std::array<int64_t, 4> dims_{};
  int rank_ = 0;
};

// A contiguous row-major array in the memory of a backend's device.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;

  int64_t count() const { return shape.count(); }
  size_t bytes() const { return static_cast<size_t>(count()) * size_of(dtype); }
  explicit operator bool() const { return data != nullptr; }
  // The typed pointer; the caller has checked the dtype (backends dispatch on it). Null stays null.
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  // Elements [begin, begin + new_shape.count()) of the flat array seen under a new shape; a tensor that has
  // no memory yet stays without.
  Tensor slice(int64_t begin, Shape new_shape) const {
    if (data == nullptr) return {nullptr, dtype, new_shape};
    return {static_cast<std::byte*>(data) + static_cast<size_t>(begin) * size_of(dtype), dtype, new_shape};
  }
};

// A matrix whose rows are `stride` elements apart: what a GEMM reads and writes.
struct MatrixView {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0, cols = 0, stride = 0;

  MatrixView() = default;
  MatrixView(void* data_, DType dtype_, int64_t rows_, int64_t cols_, int64_t stride_)
      : data(data_), dtype(dtype_), rows(rows_), cols(cols_), stride(stride_) {}
  // All of a tensor as (rows = all dimensions but the last, cols = the last).
  MatrixView(const Tensor& t);  // NOLINT(google-explicit-constructor): a tensor is a matrix
  void* row(int64_t index) const {
    return static_cast<std::byte*>(data) + static_cast<size_t>(index * stride) * size_of(dtype);
  }
  // Rows [begin, begin + count).
  MatrixView rows_from(int64_t begin, int64_t count) const {
    return {row(begin), dtype, count, cols, stride};
  }
  // Columns [begin, begin + count) of every row.
  MatrixView columns(int64_t begin, int64_t count) const {
    return {static_cast<std::byte*>(data) + static_cast<size_t>(begin) * size_of(dtype), dtype, rows, count,
            stride};
  }
};

}  // namespace polar

#include "tensor/tensor.h"

#include "base/error.h"

namespace polar {

std::string_view name_of(DType type) {
  switch (type) {
    case DType::f32:
      return "F32";
    case DType::f64:
      return "F64";
    case DType::bf16:
      return "BF16";
    case DType::i32:
      break;
  }
  return "I32";
}

Shape::Shape(std::initializer_list<int64_t> dims) {
  if (dims.size() > dims_.size()) fail("a tensor has at most four dimensions, got {}", dims.size());
  for (int64_t d : dims) dims_[static_cast<size_t>(rank_++)] = d;
}

int64_t Shape::count() const {
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= (*this)[i];
  return n;
}

std::string Shape::text() const {
  std::string out = "[";
  for (int i = 0; i < rank_; ++i) out += (i ? ", " : "") + std::to_string((*this)[i]);
  return out + "]";
}

MatrixView::MatrixView(const Tensor& t)
    : data(t.data),
      dtype(t.dtype),
      rows(t.shape.rank() == 0 ? 1 : t.count() / t.shape[t.shape.rank() - 1]),
      cols(t.shape.rank() == 0 ? 1 : t.shape[t.shape.rank() - 1]),
      stride(cols) {}

}  // namespace polar

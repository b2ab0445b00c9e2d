// The parameter registry: name, shape, role and place of every parameter of a model in one flat buffer.
// Weights that one GEMM reads together (q|k|v, gate|up) lie together, yet each is an entry of its own: a
// matrix optimizer must see each by itself. Gradients and element-wise optimizer state use the same places.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace polar {

enum class Role { embedding, head, norm, bias, matrix };
std::string_view name_of(Role role);

struct Parameter {
  std::string name;  // the Hugging Face name, e.g. "model.layers.0.self_attn.q_proj.weight"
  Role role;
  Shape shape;     // [out, in] for matrices: m rows = fan-out, n columns = fan-in
  int64_t offset;  // elements from the start of the flat buffer
  int64_t heads;   // of the projections of queries and keys: attention heads, a block of rows each; else 1
  int64_t count() const { return shape.count(); }
};

class ParameterRegistry {
 public:
  static constexpr int64_t kAlignment = 64;  // elements

  // Adds a parameter behind the previous one; `joined` puts it there without a gap (the next part of a fused
  // weight), otherwise the offset is rounded up to kAlignment. Returns its index. Error if the name is taken.
  int add(std::string name, Role role, Shape shape, bool joined = false, int64_t heads = 1);

  const std::vector<Parameter>& parameters() const { return parameters_; }
  const Parameter& operator[](int index) const { return parameters_[static_cast<size_t>(index)]; }
  // The index of a name, or -1.
  int find(std::string_view name) const;
  int64_t parameter_count() const;             // without padding
  int64_t flat_count() const { return end_; }  // elements of the flat buffer, padding included
  // The parameter's part of a flat buffer with this layout.
  Tensor view(const Tensor& flat, int index) const {
    return flat.slice((*this)[index].offset, (*this)[index].shape);
  }

 private:
  std::vector<Parameter> parameters_;
  std::map<std::string, int, std::less<>> indices_;  // by name
  int64_t end_ = 0;
};

}  // namespace polar

// The parameters of a registry from and to named tensors: what a file must hold, and nothing else.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/safetensors.h"
#include "tensor/registry.h"

namespace polar {

// A tensor that a file may hold besides the registry's, as a copy of another one (the head of a tied model).
struct TiedCopy {
  std::string name, original;
};

// What does not fit, a line each: missing, of another shape, unexpected, a copy that differs. Empty: all
// fits.
std::vector<std::string> mismatches(const TensorSource& source, const ParameterRegistry& registry,
                                    const std::vector<TiedCopy>& copies = {});
// Error (exit code 2) that lists the mismatches (the first twenty).
void check_parameters(const TensorSource& source, const ParameterRegistry& registry,
                      const std::vector<TiedCopy>& copies = {});

// Checks, then reads all parameters into the registry's flat buffer (f32, host memory). The padding between
// parameters is left as it is.
void read_parameters(const TensorSource& source, const ParameterRegistry& registry, const Tensor& flat,
                     const std::vector<TiedCopy>& copies = {});

// Views of the parameters in a flat buffer, by name, to be written. `prefix` is put before each name
// ("adamw.m:").
std::vector<NamedTensor> named_parameters(const ParameterRegistry& registry, const Tensor& flat,
                                          const std::string& prefix = "");

}  // namespace polar

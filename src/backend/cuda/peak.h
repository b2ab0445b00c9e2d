// The matrix rate of NVIDIA's cards, from their data sheets or their properties.
#pragma once

#include <string_view>

#include "ops/ops.h"

namespace polar::cuda {

// What the rate of a card follows from.
struct CardProperties {
  std::string_view name;     // "NVIDIA H100 80GB HBM3"
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  double clock = 0.0;  // Hz, boost
};

// Dense products with f32 accumulation: bf16 on the tensor cores, f32 on the FMA units (TF32 is not used).
// The data sheet's figure where the name is known to have one; else multiprocessors x clock x FLOPs a clock
// of the compute capability; zero for one that came after this was written, and for other formats.
PeakRate peak_of_card(const CardProperties& card, DType compute);

PeakRate peak_of_device(int device, DType compute);

}  // namespace polar::cuda

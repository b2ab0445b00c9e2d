// What MFU, the share of a device's matrix rate that a run's model FLOPs use, is a share of.
#pragma once

#include "ops/ops.h"

namespace polar {

// The device's rate in a format: what the backend knows (data sheet or properties of the card), else, on a
// device with memory of its own, that of one large product, measured now (it takes 100 MiB of device memory
// for a moment). Zero on the CPU, whose rate nobody asked for.
PeakRate training_peak(Ops& ops, DType compute);

// The rate of a product of two square matrices with `edge` rows, the best of five.
PeakRate measured_peak(Ops& ops, DType compute, int64_t edge);

}  // namespace polar

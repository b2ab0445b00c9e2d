#include "backend/cuda/peak.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <array>

#include "backend/cuda/runtime.h"

namespace polar::cuda {
namespace {

// Cards whose clock attribute is not the clock that their data sheet counts with, or that have more or fewer
// FLOPs a clock than others of their compute capability. Dense bf16 with f32 accumulation. Longer names
// first.
struct DataSheet {
  std::string_view part_of_name;
  double tera_flops;
};
constexpr std::array kDataSheets{
    DataSheet{"GH200", 989.4},     DataSheet{"H200 NVL", 835.5},    DataSheet{"H200", 989.4},
    DataSheet{"H100 NVL", 835.5},  DataSheet{"H100 PCIe", 756.4},   DataSheet{"H100", 989.4},
    DataSheet{"H800 PCIe", 756.4}, DataSheet{"H800", 989.4},        DataSheet{"H20", 148.0},
    DataSheet{"A100", 312.0},      DataSheet{"A800", 312.0},        DataSheet{"A30", 165.0},
    DataSheet{"A40", 149.7},       DataSheet{"A10G", 70.0},         DataSheet{"A10", 125.0},
    DataSheet{"RTX A6000", 154.8}, DataSheet{"L40S", 362.1},        DataSheet{"L40", 181.1},
    DataSheet{"L4", 121.0},        DataSheet{"RTX 6000 Ada", 364.2}};

// FLOPs of one multiprocessor in one clock; 0: unknown.
struct Rates {
  int major, minor;
  double bf16, f32;
};
constexpr std::array kRates{Rates{8, 0, 2048, 128}, Rates{8, 6, 512, 256},   Rates{8, 9, 512, 256},
                            Rates{9, 0, 4096, 256}, Rates{10, 0, 8192, 256}, Rates{10, 3, 8192, 256},
                            Rates{12, 0, 512, 256}, Rates{12, 1, 512, 256}};

// `part` as words of `name`: "L4" is none of "NVIDIA L40".
bool names(std::string_view name, std::string_view part) {
  const size_t at = name.find(part);
  if (at == std::string_view::npos) return false;
  const size_t end = at + part.size();
  const auto is_word_end = [&](size_t i) { return i >= name.size() || name[i] == ' ' || name[i] == '-'; };
  return (at == 0 || is_word_end(at - 1)) && is_word_end(end);
}

}  // namespace

PeakRate peak_of_card(const CardProperties& card, DType compute) {
  if (compute == DType::bf16)
    for (const DataSheet& sheet : kDataSheets)
      if (names(card.name, sheet.part_of_name))
        return {1e12 * sheet.tera_flops, fmt::format("data sheet of {}", sheet.part_of_name)};
  for (const Rates& rates : kRates) {
    if (rates.major != card.major || rates.minor != card.minor) continue;
    const double each = compute == DType::bf16 ? rates.bf16 : compute == DType::f32 ? rates.f32 : 0.0;
    return {card.multiprocessors * card.clock * each,
            fmt::format("{} SMs x {:.3g} GHz x {:.0f} FLOPs a clock", card.multiprocessors, 1e-9 * card.clock,
                        each)};
  }
  return {};
}

PeakRate peak_of_device(int device, DType compute) {
  cudaDeviceProp properties{};
  int kilohertz = 0;
  CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  CUDA_CHECK(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, device));
  return peak_of_card({.name = properties.name,
                       .major = properties.major,
                       .minor = properties.minor,
                       .multiprocessors = properties.multiProcessorCount,
                       .clock = 1e3 * kilohertz},
                      compute);
}

}  // namespace polar::cuda

// A machine to train on, as configs/hardware/*.yaml describe it: what `polartrain plan --simulate` computes
// with. Rates are those of a data sheet; the share beside each is what of it a training step is expected to
// reach.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace polar {

// What one rank computes on: a GPU, or a rank's part of a CPU. Keys and units are the members' names.
struct DeviceHardware {
  std::string backend = "cuda";  // whose memory plan holds: cuda | cpu
  double tflops_bf16 = 0.0;      // 1e12 FLOPs a second, matrix products with sums in fp32
  double tflops_fp32 = 0.0;
  double gemm_share = 1.0;  // of the products of the model
  double attention_share = 1.0;
  double polar_share = 1.0;
  double memory_gb = 0.0;        // 1e9 bytes
  double reserved_gb = 0.0;      // of them, for the driver and its libraries
  double memory_gb_per_s = 0.0;  // bytes read and written
  double memory_share = 1.0;
  double launch_us = 0.0;  // what a kernel costs beside its work

  bool operator==(const DeviceHardware&) const = default;
};

// One direction of a link. Messages of a collective operation go one after the other around a ring.
struct LinkHardware {
  double gb_per_s = 0.0;  // 1e9 bytes a second, one direction
  double share = 1.0;
  double latency_us = 0.0;  // of one message

  double bytes_per_s() const { return 1e9 * gb_per_s * share; }
  bool operator==(const LinkHardware&) const = default;
};

struct NodeHardware {
  int64_t devices = 1;
  // What of its rates (products and memory) a device keeps while all of the node work; between one and all
  // of them linear. Below 1 where devices share clock, cores or memory, as the ranks on one CPU do.
  double busy_share = 1.0;
  LinkHardware link;  // of each device to the others of its node

  bool operator==(const NodeHardware&) const = default;
};

struct NetworkHardware {
  int64_t cards = 1;  // a node
  LinkHardware card;

  bool operator==(const NetworkHardware&) const = default;
};

struct Hardware {
  std::string name;
  double collective_us = 0.0;  // what a collective operation costs beside its messages
  DeviceHardware device;
  NodeHardware node;
  std::optional<NetworkHardware> network;  // none: one node

  bool operator==(const Hardware&) const = default;
};

// Reads `file` as strictly as an experiment is read (config/experiment.h): Error (exit code 2) with file,
// line, what was found and what was expected. `overrides`: "node.devices=4".
Hardware load_hardware(const std::filesystem::path& file, const std::vector<std::string>& overrides = {});

// Every dotted key of a hardware description.
std::vector<std::string> hardware_key_paths();

}  // namespace polar

#include "config/hardware.h"

#include "base/error.h"
#include "config/fields.h"
#include "config/section_reader.h"
#include "config/tree.h"

namespace polar {

// The table of keys. What has no default in it is a figure that nobody can guess.
template <class Visitor, Section<DeviceHardware> C>
void fields(Visitor& visit, C& c) {
  constexpr Range kShare{.low = 0.0, .high = 1.0, .low_open = true};
  const auto number = [&](std::string_view name, std::string_view unit, std::string_view doc, Range range,
                          auto& value) {
    visit({.name = name, .unit = unit, .doc = doc, .range = range, .required = true}, value);
  };
  visit({.name = "backend", .doc = "whose memory plan holds", .choices = "cuda | cpu", .required = true},
        c.backend);
  number("tflops_bf16", "TFLOP/s", "rate of matrix products in bf16", above(0), c.tflops_bf16);
  number("tflops_fp32", "TFLOP/s", "rate of matrix products in fp32", above(0), c.tflops_fp32);
  number("gemm_share", "", "share of it that the model's products reach", kShare, c.gemm_share);
  number("attention_share", "", "share of it that attention reaches", kShare, c.attention_share);
  number("polar_share", "", "share of it that the products of a polar step reach", kShare, c.polar_share);
  number("memory_gb", "GB (1e9 bytes)", "memory of a rank", above(0), c.memory_gb);
  number("reserved_gb", "GB (1e9 bytes)", "of it, for the driver and its libraries", at_least(0),
         c.reserved_gb);
  number("memory_gb_per_s", "GB/s", "memory bandwidth, reading and writing", above(0), c.memory_gb_per_s);
  number("memory_share", "", "share of it that kernels bound by memory reach", kShare, c.memory_share);
  number("launch_us", "us", "what a kernel costs beside its work", at_least(0), c.launch_us);
}

template <class Visitor, Section<LinkHardware> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "gb_per_s",
         .unit = "GB/s",
         .doc = "bandwidth of one direction",
         .range = above(0),
         .required = true},
        c.gb_per_s);
  visit({.name = "share",
         .doc = "share of it that collective operations reach",
         .range = {.low = 0.0, .high = 1.0, .low_open = true},
         .required = true},
        c.share);
  visit({.name = "latency_us",
         .unit = "us",
         .doc = "latency of one message",
         .range = at_least(0),
         .required = true},
        c.latency_us);
}

template <class Visitor, Section<NodeHardware> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "devices",
         .unit = "ranks",
         .doc = "devices of a node",
         .range = between(1, 1 << 16),
         .required = true},
        c.devices);
  visit({.name = "busy_share",
         .doc = "what of its rates a device keeps while all of the node work",
         .range = {.low = 0.0, .high = 1.0, .low_open = true}},
        c.busy_share);
  visit({.name = "link", .doc = "of each device to the others of its node", .required = true}, c.link);
}

template <class Visitor, Section<NetworkHardware> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "cards",
         .unit = "network cards",
         .doc = "network cards of a node",
         .range = between(1, 1 << 16),
         .required = true},
        c.cards);
  visit({.name = "card", .doc = "one of them", .required = true}, c.card);
}

template <class Visitor, Section<Hardware> C>
void fields(Visitor& visit, C& c) {
  visit({.name = "name", .doc = "what reports call it", .required = true}, c.name);
  visit({.name = "collective_us",
         .unit = "us",
         .doc = "what a collective operation costs beside its messages",
         .range = at_least(0),
         .required = true},
        c.collective_us);
  visit({.name = "device", .doc = "what one rank computes on", .required = true}, c.device);
  visit({.name = "node", .doc = "how many of them are together", .required = true}, c.node);
  visit({.name = "network", .doc = "between nodes; left out: there is one node"}, c.network);
}

template <>
inline constexpr std::string_view kRootName<Hardware> = "a hardware description";

Hardware load_hardware(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  ConfigNode root = read_config_tree(
      file, "the keys name, device, node, ... of a hardware description (see configs/hardware)");
  for (const std::string& assignment : overrides) apply_override(root, assignment);
  Hardware hardware;
  SectionReader<Hardware>::read_section(root, "", hardware);
  const DeviceHardware& device = hardware.device;
  if (device.reserved_gb >= device.memory_gb)
    fail_usage("{}: device.reserved_gb: found {}, expected less than device.memory_gb ({})",
               origin_of(root, "device.reserved_gb"), device.reserved_gb, device.memory_gb);
  return hardware;
}

std::vector<std::string> hardware_key_paths() {
  return key_paths<Hardware>();
}

}  // namespace polar

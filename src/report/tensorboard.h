// TensorBoard event files: scalars by tag and step, without TensorFlow or protobuf.
// Format: TensorFlow's record file (length, masked CRC-32C, data, masked CRC-32C) of Event messages; the few
// protobuf fields that scalars need are encoded by hand.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "report/metrics.h"

namespace polar {

// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), as in RFC 3720, and the masked form of record files.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

using Scalars = std::vector<std::pair<std::string, double>>;  // (tag, value), e.g. ("train/loss", 3.2)

// What of a logged step TensorBoard shows: train/loss, train/lr/<group>, ..., val/loss, ...
Scalars tensorboard_scalars(const StepMetrics& metrics);

// Writes one event file into a directory (made if missing); every call is handed to the system at once.
// Times are seconds since the Unix epoch. Errors: Error naming the file.
class EventWriter {
 public:
  // The file's name holds `time`, and a counter if that name is taken: TensorBoard reads the files in order.
  // `first_step` is the first step this file may hold: when a run is resumed, TensorBoard drops what earlier
  // files say from that step on.
  EventWriter(const std::filesystem::path& directory, double time, int64_t first_step = 0);
  void write(int64_t step, double time, const Scalars& scalars);
  const std::filesystem::path& path() const { return path_; }

 private:
  void write_record(const std::string& data);
  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace polar

// The JSON header of a safetensors file: a strict parser for hostile input, and the writer.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/safetensors.h"

namespace polar {

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // ordered by begin; begin and end relative to the data
  Metadata metadata;
};

// Parses and checks everything: structure, duplicate names, types, shapes (no overflow), offsets that follow
// each other without hole or overlap from 0 to `data_bytes`. `file` is what errors call the file.
SafetensorsHeader parse_safetensors_header(std::string_view json, size_t data_bytes, std::string_view file);

// The header with its length in front, padded with spaces to a multiple of 64 bytes.
std::string format_safetensors_header(const SafetensorsHeader& header);

}  // namespace polar

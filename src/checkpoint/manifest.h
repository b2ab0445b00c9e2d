// manifest.json: size and checksum of every file of a checkpoint directory, and a checksum of itself.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

namespace polar {

inline constexpr std::string_view kManifestName = "manifest.json";

struct FileRecord {
  uint64_t size = 0;
  std::string checksum;  // XXH3-128, 32 hexadecimal digits
};
using Manifest = std::map<std::string, FileRecord>;  // by file name

// Size and checksum of a file as it stands on the disk.
FileRecord record_of(const std::filesystem::path& file);

std::string format_manifest(const Manifest& manifest);
// Error: not a manifest, another version, or its own checksum does not fit.
Manifest parse_manifest(const std::string& text);

}  // namespace polar

#include "checkpoint/manifest.h"

#include <nlohmann/json.hpp>
#include <span>

#include "base/error.h"
#include "base/file.h"

namespace polar {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;

// The manifest vouches for the other files; this vouches for the manifest.
std::string checksum_of(const json& files) {
  const std::string text = files.dump();
  return checksum(std::as_bytes(std::span(text)));
}

FileRecord parse_record(const std::string& name, const json& entry) {
  const bool plain = !name.empty() && name.front() != '.' && name.find('/') == std::string::npos;
  if (!plain) fail("\"{}\" is not a plain file name", name);
  if (!entry.is_object() || !entry.contains("size") || !entry["size"].is_number_unsigned() ||
      !entry.contains("xxh3_128") || !entry["xxh3_128"].is_string())
    fail("the entry of {} is not {{\"size\": bytes, \"xxh3_128\": digits}}", name);
  return {entry["size"].get<uint64_t>(), entry["xxh3_128"].get<std::string>()};
}

}  // namespace

FileRecord record_of(const std::filesystem::path& file) {
  const MappedFile mapped(file);
  return {mapped.size(), checksum(mapped.bytes())};
}

std::string format_manifest(const Manifest& manifest) {
  json files = json::object();
  for (const auto& [name, record] : manifest)
    files[name] = {{"size", record.size}, {"xxh3_128", record.checksum}};
  const json root = {{"format", "polartrain-checkpoint"},
                     {"version", kVersion},
                     {"files", files},
                     {"files_xxh3_128", checksum_of(files)}};
  return root.dump(2);  // no newline at the end: the loss of any byte shows
}

Manifest parse_manifest(const std::string& text) {
  const json root = json::parse(text, nullptr, false);
  if (!root.is_object() || root.value("format", json()) != "polartrain-checkpoint" ||
      !root.contains("files") || !root["files"].is_object())
    fail("not a checkpoint manifest");
  if (root.value("version", json()) != kVersion)
    fail("version {}, expected {}", root.value("version", json()).dump(), kVersion);
  if (root.value("files_xxh3_128", json()) != checksum_of(root["files"]))
    fail("its list of files does not have the checksum that it states");
  Manifest manifest;
  for (const auto& [name, entry] : root["files"].items()) manifest[name] = parse_record(name, entry);
  return manifest;
}

}  // namespace polar

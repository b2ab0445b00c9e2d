#include "checkpoint/parts.h"

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "base/file.h"

namespace polar {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kSuffix = ".parts";
constexpr auto kPause = std::chrono::milliseconds(20);

std::string file_name(std::string_view stem, const CheckpointPart& part, int rank) {
  return fmt::format("{}-{:05}-of-{:05}.safetensors", stem, rank + 1, part.world_size);
}
fs::path note_of(const fs::path& parts, int rank) {
  return parts / fmt::format("rank-{}.json", rank);
}

// The note of a rank, if it is there, whole and of this start of the run.
json read_note(const fs::path& parts, int rank, const std::string& token) {
  if (!fs::exists(note_of(parts, rank))) return {};
  json note = json::parse(read_file(note_of(parts, rank)), nullptr, false);
  if (!note.is_object() || note.value("token", "") != token) return {};
  return note;
}

// Tensor names by file: what an index says the other way round.
using Contents = std::map<std::string, std::vector<std::string>>;

Contents contents_of(const CheckpointContent& content) {
  Contents files;
  for (const auto& [stem, tensors] : {std::pair{"model", &content.model}, {"optimizer", &content.optimizer}})
    for (const NamedTensor& tensor : *tensors)
      files[file_name(stem, content.part, content.part.rank)].push_back(tensor.name);
  return files;
}

void write_index(const fs::path& dir, const std::string& stem, const Contents& files,
                 std::vector<std::string>& names) {
  json map = json::object();
  for (const auto& [file, tensors] : files)
    if (file.starts_with(stem + "-"))
      for (const std::string& tensor : tensors) map[tensor] = file;
  if (map.empty()) return;
  names.push_back(stem + ".safetensors.index.json");
  const json index{{"metadata", {{"format", "pt"}}}, {"weight_map", std::move(map)}};
  FileWriter writer(dir / names.back());
  writer.write(index.dump(1) + "\n");
  writer.close();
}

// The notes of all ranks but 0. The first that has failed is an Error, whoever else is still missing.
std::map<int, json> await_notes(const fs::path& parts, const CheckpointPart& part) {
  using Clock = std::chrono::steady_clock;
  std::map<int, json> notes;
  const auto end = Clock::now() + std::chrono::duration<double>(part.timeout_seconds);
  for (;; std::this_thread::sleep_for(kPause)) {
    const bool last_look = part.give_up != nullptr && *part.give_up;
    std::string missing;
    for (int rank = 1; rank < part.world_size; ++rank) {
      if (notes.contains(rank)) continue;
      json note = read_note(parts, rank, part.token);
      if (note.is_null()) {
        missing += fmt::format("{}{}", missing.empty() ? "" : ", ", rank);
        continue;
      }
      if (note.contains("error")) fail("rank {}: {}", rank, note.at("error").get<std::string>());
      notes[rank] = std::move(note);
    }
    if (missing.empty()) return notes;
    if (last_look) fail("rank {} has not delivered its part of the checkpoint", missing);
    if (Clock::now() > end)
      fail(
          "rank {} did not deliver its part of the checkpoint to {} within {} s: is it a file system that "
          "all ranks share?",
          missing, parts.string(), part.timeout_seconds);
  }
}

}  // namespace

fs::path parts_dir(const fs::path& checkpoint) {
  return checkpoint.parent_path() / fmt::format(".{}{}", checkpoint.filename().string(), kSuffix);
}

bool is_parts_name(std::string_view file_name) {
  return file_name.starts_with(".") && file_name.ends_with(kSuffix);
}

// Later ones belong to ranks that are ahead.
void remove_earlier_parts(const fs::path& parts) {
  std::error_code ignored;
  std::vector<fs::path> earlier;
  for (const fs::directory_entry& entry : fs::directory_iterator(parts.parent_path(), ignored))
    if (is_parts_name(entry.path().filename().string()) && entry.path().filename() < parts.filename())
      earlier.push_back(entry.path());
  for (const fs::path& path : earlier) fs::remove_all(path, ignored);
}

std::vector<std::string> write_part(const fs::path& dir, const CheckpointContent& content) {
  std::vector<std::string> names;
  const auto write = [&](const char* stem, const std::vector<NamedTensor>& tensors,
                         std::optional<DType> floats_as) {
    if (tensors.empty()) return;
    names.push_back(file_name(stem, content.part, content.part.rank));
    write_safetensors(dir / names.back(), tensors, {}, floats_as);
  };
  write("model", content.model, content.floats_as);
  write("optimizer", content.optimizer, {});
  return names;
}

void hand_over_part(const fs::path& parts, const CheckpointContent& content) {
  json note{{"token", content.part.token}};
  try {
    fs::create_directories(parts);
    write_part(parts, content);
    note["files"] = contents_of(content);
  } catch (const std::exception& error) {
    // So that rank 0 need not wait until its patience is over. What was written of the part makes room first.
    note["error"] = error.what();
    std::error_code ignored;
    for (const auto& [file, tensors] : contents_of(content)) fs::remove(parts / file, ignored);
    try {
      write_file_atomically(note_of(parts, content.part.rank), note.dump());
    } catch (const std::exception&) {  // the first error is the one to tell
    }
    throw;
  }
  try {
    write_file_atomically(note_of(parts, content.part.rank), note.dump());
  } catch (const Error&) {
    // Rank 0 may see the last note as soon as it has its name, take the parts and remove their directory,
    // while that is still being flushed here. Had it not seen it, it would say that this part is missing.
    std::error_code ignored;
    if (fs::exists(parts, ignored)) throw;
  }
}

void gather_parts(const fs::path& dir, const fs::path& parts, const CheckpointContent& content,
                  std::vector<std::string>& names) {
  Contents files = contents_of(content);
  for (const auto& [rank, note] : await_notes(parts, content.part)) {
    for (const auto& [file, tensors] : note.at("files").get<Contents>()) {
      fs::rename(parts / file, dir / file);
      names.push_back(file);
      files[file] = tensors;
    }
  }
  for (const char* stem : {"model", "optimizer"}) write_index(dir, stem, files, names);
  fs::remove_all(parts);
}

}  // namespace polar

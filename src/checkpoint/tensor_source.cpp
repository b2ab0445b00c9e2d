#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "checkpoint/safetensors.h"

namespace polar {
namespace {

// The weight_map of an index: tensor name -> file name.
std::map<std::string, std::string> read_weight_map(const std::filesystem::path& index) {
  const nlohmann::json root = nlohmann::json::parse(read_file(index), nullptr, false);
  if (root.is_discarded()) fail("{}: not valid JSON", index.string());
  const auto map = root.is_object() ? root.find("weight_map") : root.end();
  if (map == root.end() || !map->is_object() || map->empty())
    fail("{}: expected an object with a \"weight_map\" of tensor names to file names", index.string());
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : map->items()) {
    const std::string text = file.is_string() ? file.get<std::string>() : "";
    if (text.empty() || text.front() == '.' || text.find('/') != std::string::npos)
      fail("{}: tensor {}: {} is not the name of a file beside the index", index.string(), name, file.dump());
    files[name] = text;
  }
  return files;
}

}  // namespace

TensorSource::TensorSource(const std::filesystem::path& path, std::string_view stem) : path_(path) {
  namespace fs = std::filesystem;
  const fs::path single = fs::is_directory(path) ? path / fmt::format("{}.safetensors", stem) : path;
  const fs::path index = path / fmt::format("{}.safetensors.index.json", stem);
  if (!fs::exists(single) && fs::exists(index)) {
    open_shards(index);
    return;
  }
  if (!fs::exists(single))
    fail_usage("{}: neither {} nor {} is there", path.string(), single.filename().string(),
               index.filename().string());
  files_.push_back(std::make_unique<SafetensorsFile>(single));
  for (const std::string& name : files_.front()->names()) place_[name] = files_.front().get();
}

void TensorSource::open_shards(const std::filesystem::path& index) {
  const std::map<std::string, std::string> weight_map = read_weight_map(index);
  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [tensor, file] : weight_map) {
    const SafetensorsFile*& shard = shards[file];
    if (shard == nullptr) {
      if (!std::filesystem::exists(path_ / file))
        fail("{}: tensor {} is said to be in {}, which is missing", index.string(), tensor, file);
      shard = files_.emplace_back(std::make_unique<SafetensorsFile>(path_ / file)).get();
    }
    if (shard->find(tensor) == nullptr)
      fail("{}: tensor {} is said to be in {}, which does not hold it", index.string(), tensor, file);
    place_[tensor] = shard;
  }
  for (const auto& [file, shard] : shards)
    for (const std::string& name : shard->names())
      if (!contains(name) || place_.at(name) != shard)
        fail("{}: {} holds tensor {}, which the index does not put there", index.string(), file, name);
}

std::vector<std::string> TensorSource::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : place_) names.push_back(name);
  return names;
}

const SafetensorsFile& TensorSource::file_of(std::string_view name) const {
  const auto found = place_.find(name);
  if (found == place_.end())
    fail("{}: there is no tensor {} among its {}", path_.string(), name, place_.size());
  return *found->second;
}

}  // namespace polar

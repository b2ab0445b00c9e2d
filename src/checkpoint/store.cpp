#include "checkpoint/store.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "base/atomic_directory.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoint/manifest.h"
#include "checkpoint/parts.h"

namespace polar {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPrefix = "step-";

std::optional<int64_t> parse_step(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int64_t step = 0;
  const auto [end, reason] = std::from_chars(name.data(), name.data() + name.size(), step);
  if (reason != std::errc() || end != name.data() + name.size() || step < 0) return std::nullopt;
  return step;
}

void write_file(const fs::path& path, std::string_view content) {
  FileWriter writer(path);
  writer.write(content);
  writer.close();
}

void check_name(const std::string& name) {
  const bool reserved = name == "model.safetensors" || name == "optimizer.safetensors" ||
                        name == "state.json" || name == kManifestName;
  if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos || reserved)
    fail("a checkpoint cannot hold a small file named \"{}\"", name);
}

Manifest write_files(const fs::path& dir, const fs::path& parts, const CheckpointContent& content) {
  std::vector<std::string> names;
  if (content.part.world_size > 1) {
    names = write_part(dir, content);
    gather_parts(dir, parts, content, names);
  } else {
    names.push_back("model.safetensors");
    write_safetensors(dir / names.back(), content.model, {}, content.floats_as);
    if (!content.optimizer.empty()) {
      names.push_back("optimizer.safetensors");
      write_safetensors(dir / names.back(), content.optimizer);
    }
  }
  if (!content.state.is_null()) {
    names.push_back("state.json");
    write_file(dir / names.back(), content.state.dump(2) + "\n");
  }
  for (const SmallFile& file : content.files) {
    check_name(file.name);
    names.push_back(file.name);
    write_file(dir / file.name, file.content);
  }
  Manifest manifest;
  for (const std::string& name : names)
    if (!manifest.emplace(name, record_of(dir / name)).second) fail("{} is given twice", name);
  return manifest;
}

}  // namespace

fs::path checkpoints_dir(const fs::path& run) {
  return run / "checkpoints";
}

fs::path checkpoint_dir(const fs::path& run, int64_t step) {
  return checkpoints_dir(run) / fmt::format("{}{:08}", kPrefix, step);
}

std::vector<int64_t> list_steps(const fs::path& run) {
  std::vector<int64_t> steps;
  if (!fs::is_directory(checkpoints_dir(run))) return steps;
  for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints_dir(run))) {
    const std::optional<int64_t> step = parse_step(entry.path().filename().string());
    if (step && entry.is_directory() && checkpoint_dir(run, *step) == entry.path()) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

void write_checkpoint(const fs::path& target, const CheckpointContent& content) {
  const fs::path path = directory_path(target), parts = parts_dir(path);
  if (content.part.rank > 0) return hand_over_part(parts, content);  // rank 0 does the rest
  if (content.part.world_size > 1) remove_earlier_parts(parts);
  AtomicDirectory directory(path);
  const Manifest manifest = write_files(directory.path(), parts, content);
  write_file(directory.path() / kManifestName, format_manifest(manifest));
  directory.publish();
}

fs::path save_checkpoint(const fs::path& run, int64_t step, const CheckpointContent& content) {
  const fs::path dir = checkpoint_dir(run, step);
  write_checkpoint(dir, content);
  return dir;
}

std::vector<Problem> verify(const fs::path& dir) {
  const std::string manifest_name(kManifestName);
  if (!fs::exists(dir / kManifestName)) return {{manifest_name, "missing"}};
  Manifest manifest;
  try {
    manifest = parse_manifest(read_file(dir / kManifestName));
  } catch (const Error& e) {
    return {{manifest_name, e.what()}};
  }
  std::vector<Problem> problems;
  for (const auto& [name, expected] : manifest) {
    std::error_code reason;
    const uintmax_t size = fs::file_size(dir / name, reason);
    if (reason)
      problems.push_back({name, reason.message()});
    else if (size != expected.size)
      problems.push_back({name, fmt::format("{} bytes, expected {}", size, expected.size)});
    else if (const std::string found = checksum_file(dir / name); found != expected.checksum)
      problems.push_back({name, fmt::format("checksum {}, expected {}", found, expected.checksum)});
  }
  return problems;
}

std::string describe(const std::vector<Problem>& problems) {
  std::string text;
  for (const Problem& p : problems)
    text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", p.file, p.reason);
  return text;
}

std::optional<FoundCheckpoint> latest_valid(const fs::path& run) {
  const std::vector<int64_t> steps = list_steps(run);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    const fs::path dir = checkpoint_dir(run, *step);
    const std::vector<Problem> problems = verify(dir);
    if (problems.empty()) return FoundCheckpoint{*step, dir};
    log::warning("checkpoint {} is broken and skipped: {}", dir.string(), describe(problems));
  }
  if (!steps.empty())
    fail(
        "{}: none of the {} checkpoints is intact (see above); start with another run directory, or restore "
        "one",
        checkpoints_dir(run).string(), steps.size());
  return std::nullopt;
}

fs::path resolve_checkpoint(const fs::path& path) {
  if (!fs::is_directory(path)) fail_usage("{}: no such directory", path.string());
  if (fs::is_directory(checkpoints_dir(path))) {
    const std::optional<FoundCheckpoint> found = latest_valid(path);
    if (!found) fail_usage("{}: the run has no checkpoint yet", path.string());
    return found->dir;
  }
  const bool holds_model = fs::exists(path / "config.json") || fs::exists(path / "model.safetensors");
  if (holds_model && fs::exists(path / kManifestName)) {
    const std::vector<Problem> problems = verify(path);
    if (!problems.empty()) fail("checkpoint {} is broken: {}", path.string(), describe(problems));
  } else if (!fs::exists(path / "config.json")) {
    fail_usage("{}: neither a run (checkpoints/), nor a checkpoint or model (config.json, model.safetensors)",
               path.string());
  }
  return path;
}

nlohmann::json read_state(const fs::path& dir) {
  const nlohmann::json state = nlohmann::json::parse(read_file(dir / "state.json"), nullptr, false);
  if (!state.is_object()) fail("{}: not a JSON object", (dir / "state.json").string());
  return state;
}

std::vector<std::string> recover(const fs::path& run) {
  std::set<fs::path> unsettled, left_parts;
  if (fs::is_directory(checkpoints_dir(run)))
    for (const fs::directory_entry& entry : fs::directory_iterator(checkpoints_dir(run))) {
      const std::string file = entry.path().filename().string(), name = settled_name(file);
      if (is_parts_name(file)) left_parts.insert(entry.path());
      if (parse_step(name)) unsettled.insert(checkpoints_dir(run) / name);
    }
  std::vector<std::string> lines;
  for (const fs::path& parts : left_parts) {
    fs::remove_all(parts);
    lines.push_back(fmt::format("removed {}: parts of a checkpoint that was not completed", parts.string()));
  }
  for (const fs::path& dir : unsettled)
    for (std::string& line : settle_directory(dir)) lines.push_back(std::move(line));
  return lines;
}

std::vector<int64_t> steps_to_delete(const std::vector<int64_t>& steps, const Retention& retention) {
  std::vector<int64_t> doomed;
  if (retention.keep_last <= 0) return doomed;
  const auto count = static_cast<int64_t>(steps.size());
  for (int64_t i = 0; i < count - retention.keep_last; ++i) {
    const int64_t step = steps[static_cast<size_t>(i)];
    const bool kept = (retention.keep_every > 0 && step % retention.keep_every == 0) ||
                      step == retention.best || step == retention.saved;
    if (!kept) doomed.push_back(step);
  }
  return doomed;
}

std::vector<int64_t> apply_retention(const fs::path& run, const Retention& retention) {
  const std::vector<int64_t> steps = list_steps(run);
  std::vector<int64_t> doomed = steps_to_delete(steps, retention);
  if (doomed.empty()) return doomed;
  // One valid checkpoint must stay. Without one just saved, look for it: among the kept ones, then the
  // others.
  const auto valid = [&](int64_t step) { return verify(checkpoint_dir(run, step)).empty(); };
  const auto goes = [&](int64_t step) {
    return std::find(doomed.begin(), doomed.end(), step) != doomed.end();
  };
  const bool safe = std::any_of(steps.rbegin(), steps.rend(), [&](int64_t step) {
    return step == retention.saved || (!goes(step) && valid(step));
  });
  if (!safe) {
    const auto last_valid = std::find_if(doomed.rbegin(), doomed.rend(), valid);
    if (last_valid != doomed.rend()) doomed.erase(std::next(last_valid).base());
  }
  for (int64_t step : doomed) remove_directory(checkpoint_dir(run, step));
  return doomed;
}

}  // namespace polar

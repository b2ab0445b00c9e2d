#include "base/atomic_directory.h"

#include <utility>

#include "base/error.h"
#include "base/file.h"

namespace polar {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kFilling = ".tmp", kSetAside = ".old", kDeleted = ".deleted";

fs::path hidden(const fs::path& directory, std::string_view suffix) {
  return directory.parent_path() / fmt::format(".{}{}", directory.filename().string(), suffix);
}

// Makes the directory that will hold the new one, so that its name survives a power cut.
void make_parent(const fs::path& parent) {
  if (fs::is_directory(parent)) return;
  std::error_code reason;
  fs::create_directories(parent, reason);
  if (reason) fail("cannot create the directory {}: {}", parent.string(), reason.message());
  sync_directory(parent.parent_path());
}

}  // namespace

fs::path directory_path(const fs::path& target) {
  return fs::absolute(target / "").lexically_normal().parent_path();
}

std::vector<std::string> settle_directory(const fs::path& directory) {
  std::vector<std::string> lines;
  if (const fs::path old = hidden(directory, kSetAside); fs::exists(old) && !fs::exists(directory)) {
    rename_durably(old, directory);
    lines.push_back(fmt::format("put {} back: its replacement was interrupted", directory.string()));
  }
  for (const std::string_view suffix : {kFilling, kSetAside, kDeleted}) {
    const fs::path leftover = hidden(directory, suffix);
    if (!fs::exists(leftover)) continue;
    remove_tree(leftover);
    lines.push_back(fmt::format("removed {}: left by an interrupted run", leftover.string()));
  }
  return lines;
}

std::string settled_name(std::string_view name) {
  if (!name.starts_with('.')) return {};
  for (const std::string_view suffix : {kFilling, kSetAside, kDeleted})
    if (name.ends_with(suffix) && name.size() > 1 + suffix.size())
      return std::string(name.substr(1, name.size() - 1 - suffix.size()));
  return {};
}

void remove_directory(const fs::path& directory) {
  const fs::path doomed = hidden(directory, kDeleted);
  remove_tree(doomed);
  rename_durably(directory, doomed);
  remove_tree(doomed);
}

AtomicDirectory::AtomicDirectory(fs::path directory)
    : directory_(std::move(directory)), filling_(hidden(directory_, kFilling)) {
  make_parent(directory_.parent_path());
  settle_directory(directory_);
  if (std::error_code reason; !fs::create_directory(filling_, reason))
    fail("cannot create the directory {}: {}", filling_.string(), reason.message());
}

// What fails here is left to settle_directory().
AtomicDirectory::~AtomicDirectory() {
  if (published_) return;
  std::error_code ignored;
  fs::remove_all(filling_, ignored);
  if (!fs::exists(directory_, ignored)) fs::rename(hidden(directory_, kSetAside), directory_, ignored);
}

void AtomicDirectory::publish() {
  sync_directory(filling_);
  const fs::path old = hidden(directory_, kSetAside);
  const bool replaces = fs::exists(directory_);
  if (replaces) rename_durably(directory_, old);
  rename_durably(filling_, directory_);
  if (replaces) remove_tree(old);
  published_ = true;
}

}  // namespace polar

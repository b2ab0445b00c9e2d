// Directories that stand complete or not at all: checkpoints, prepared data. While one is filled it has a
// hidden name beside its own; a crash at any moment leaves what stood there before, or lets it be put back.
//
//   NAME            the directory; what a reader sees
//   .NAME.tmp       being filled: becomes NAME by one rename
//   .NAME.old       the NAME before, set aside until the new one is in place
//   .NAME.deleted   being deleted, so that no half-deleted directory is ever taken for a whole one
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace polar {

// `target` as an absolute path without a trailing slash: what the functions below take.
std::filesystem::path directory_path(const std::filesystem::path& target);

// Settles what an interrupted writing or deletion of `directory` left behind: puts an old one back that has
// no successor, removes the rest. Returns a line for each thing done. Call it before looking at `directory`.
std::vector<std::string> settle_directory(const std::filesystem::path& directory);

// The directory of which `name` (a file name) is such a leftover: "step-1" of ".step-1.tmp"; empty if none.
std::string settled_name(std::string_view name);

// Removes a directory with everything in it; an interruption leaves all of it or none under its name.
void remove_directory(const std::filesystem::path& directory);

// A directory that is being written. Destroyed before publish() has returned, it gives the space back and
// leaves what stood there before.
class AtomicDirectory {
 public:
  // Settles `directory`, creates its parent where that is missing, and the hidden directory to fill.
  explicit AtomicDirectory(std::filesystem::path directory);
  AtomicDirectory(const AtomicDirectory&) = delete;
  AtomicDirectory& operator=(const AtomicDirectory&) = delete;
  ~AtomicDirectory();

  // Where the files go. They must be closed (flushed to the disk) before publish().
  const std::filesystem::path& path() const { return filling_; }
  // Puts the directory in place; replaces an older one.
  void publish();

 private:
  std::filesystem::path directory_, filling_;
  bool published_ = false;
};

}  // namespace polar

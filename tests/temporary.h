// A directory for one test, gone when the test ends, and the files that a test puts into it.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "base/error.h"

namespace polar::test {

// In memory where that is possible: saves wait until the disk has them, and tests save hundreds of times.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    namespace fs = std::filesystem;
    const fs::path memory = "/dev/shm";
    const fs::path parent = access(memory.c_str(), W_OK) == 0 ? memory : fs::temp_directory_path();
    std::string name = parent / "polartrain-test-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) fail("cannot make a temporary directory {}", name);
    path_ = name;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::filesystem::path& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Writes a file with these very bytes, over an older one if there is one, and the directories above it.
// Returns its path. (What reads it back is read_file of base/file.h.)
inline std::filesystem::path put(const std::filesystem::path& path, std::string_view content) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  if (!(file << content << std::flush)) fail("cannot write {}", path.string());
  return path;
}

}  // namespace polar::test

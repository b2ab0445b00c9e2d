// File name patterns of the configuration.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace polar {

// The files that match a pattern ("data/demo/train-*.bin"), sorted by name. Error (exit code 2) if none does.
std::vector<std::filesystem::path> expand_glob(const std::string& pattern);

}  // namespace polar

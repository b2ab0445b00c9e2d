// Checks of the source tree itself: which layer includes which, where a backend is named, how long files are,
// and whether the README's layout is what the tree is. Each check returns its complaints, one a line to mend.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace polar::house {

// The arrows of the layers: whom each may include directly. An include may also follow several arrows.
using Arrows = std::map<std::string, std::set<std::string>>;
const Arrows& arrows();

// Everything that can be reached from each layer by one arrow or more.
Arrows closure(const Arrows& direct);

using Complaints = std::vector<std::string>;

// Reads src/, tools/ and kernels/ (those that exist) under `root`.
// Every #include "..." must name a file of its own layer or of one that the arrows reach.
Complaints check_includes(const std::filesystem::path& root);
// The headers of a backend and of its libraries, and OpenMP, stand in src/backend and kernels/ only.
Complaints check_backend_names(const std::filesystem::path& root);
// At most `limit` lines a file.
Complaints check_lengths(const std::filesystem::path& root, size_t limit = 500);
// src/CMakeLists.txt may link a layer only to layers that the arrows reach.
Complaints check_link_arrows(const std::filesystem::path& root);

// The folders that the README lists: in the first fenced block below the heading "## Layout", lines that
// start (without indentation) with a word that holds a "/". A final "/" is taken off. Nothing if there is no
// block.
std::set<std::string> listed_folders(std::string_view readme);
// The folders that have to be listed, from the paths of the files in git: all at depth 1, and at depth 2
// those of src, tools and tests.
std::set<std::string> folders_of(const std::vector<std::string>& tracked_files);
Complaints compare_layout(const std::set<std::string>& listed, const std::set<std::string>& existing);

}  // namespace polar::house

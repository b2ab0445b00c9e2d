#include "house/house.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <regex>
#include <sstream>

#include "base/file.h"

namespace polar::house {
namespace {

namespace fs = std::filesystem;

struct Line {
  std::string text;
  std::string place;  // "src/base/file.cpp:12"
};

struct SourceFile {
  fs::path path;      // relative to the root
  std::string layer;  // the folder below src, or "tools", "kernels"
  std::vector<Line> lines;
};

bool is_source(const fs::path& path) {
  static const std::set<std::string> kEndings{".h", ".hpp", ".cuh", ".cpp", ".cu", ".py", ".sh"};
  return kEndings.count(path.extension().string()) > 0;
}

SourceFile read_source(const fs::path& root, const fs::path& path) {
  SourceFile file;
  file.path = fs::relative(path, root);
  auto part = file.path.begin();
  if (*part == "src") ++part;
  file.layer = part->string();
  std::istringstream content(read_file(path));
  std::string text;
  for (int number = 1; std::getline(content, text); ++number)
    file.lines.push_back({text, fmt::format("{}:{}", file.path.string(), number)});
  return file;
}

std::vector<SourceFile> read_sources(const fs::path& root) {
  std::vector<SourceFile> files;
  for (const char* folder : {"src", "tools", "kernels"}) {
    if (!fs::is_directory(root / folder)) continue;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root / folder))
      if (entry.is_regular_file() && is_source(entry.path()))
        files.push_back(read_source(root, entry.path()));
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return files;
}

// The file that a line includes, with its delimiters: "\"base/file.h\"", "<vector>"; empty for other lines.
std::string included(const std::string& line) {
  static const std::regex kInclude(R"(^\s*#\s*include\s*(["<][^">]+[">]))");
  std::smatch match;
  return std::regex_search(line, match, kInclude) ? match[1].str() : "";
}

bool reaches(const std::string& from, const std::string& to) {
  static const Arrows kReach = closure(arrows());
  const auto found = kReach.find(from);
  return from == to || (found != kReach.end() && found->second.count(to) > 0);
}

void check_include(const fs::path& root, const SourceFile& file, const Line& line, Complaints& complaints) {
  const std::string quoted = included(line.text);
  if (quoted.empty() || quoted.front() == '<') return;
  const std::string name = quoted.substr(1, quoted.size() - 2);
  const std::string layer = name.substr(0, name.find('/'));
  if (arrows().count(layer) > 0 && name.find('/') != std::string::npos) {
    if (!reaches(file.layer, layer))
      complaints.push_back(fmt::format("{}: {} may not include {}", line.place, file.layer, name));
  } else if (name.find("..") != std::string::npos || !fs::exists(root / file.path.parent_path() / name)) {
    complaints.push_back(
        fmt::format("{}: {} is neither relative to src/ nor a file beside this one", line.place, name));
  }
}

bool may_name_a_backend(const SourceFile& file) {
  return file.layer == "backend" || file.layer == "kernels";
}

// Why a line names a backend; empty if it does not.
std::string backend_name(const std::string& line) {
  static constexpr std::array<const char*, 8> kHeaders{"backend/", "cblas",  "lapack", "omp.h",
                                                       "cuda_",    "cublas", "cudnn.", "cusolver"};
  static const std::regex kOpenMp(R"(^\s*#\s*pragma\s+omp\b)");
  if (std::regex_search(line, kOpenMp)) return "#pragma omp";
  const std::string name = included(line);
  for (const char* header : kHeaders)
    if (name.find(header) != std::string::npos) return name;
  return "";
}

}  // namespace

const Arrows& arrows() {
  static const Arrows kArrows{
      {"base", {}},
      {"tensor", {"base"}},
      {"ops", {"tensor"}},
      {"kernels", {}},
      {"backend", {"ops", "comm", "kernels"}},
      {"comm", {"ops"}},
      {"launch", {"comm"}},
      {"data", {"base"}},
      {"checkpoint", {"tensor"}},
      {"model", {"ops"}},
      {"optim", {"ops", "comm"}},
      {"lab", {"optim", "report"}},
      {"config", {"model", "optim", "data"}},
      {"report", {"base"}},
      {"sweep", {"config", "report", "launch"}},
      {"plan", {"config"}},
      {"eval", {"config", "model", "data", "checkpoint"}},
      {"train", {"config", "model", "optim", "comm", "data", "checkpoint", "report", "plan", "eval"}},
      {"tools", {"train", "eval", "plan", "report", "launch", "lab", "sweep"}},
  };
  return kArrows;
}

Arrows closure(const Arrows& direct) {
  Arrows reach;
  const std::function<void(const std::string&, std::set<std::string>&)> visit =
      [&](const std::string& layer, std::set<std::string>& found) {
        const auto next = direct.find(layer);
        if (next == direct.end()) return;
        for (const std::string& target : next->second)
          if (found.insert(target).second) visit(target, found);
      };
  for (const auto& entry : direct) visit(entry.first, reach[entry.first]);
  return reach;
}

Complaints check_includes(const fs::path& root) {
  Complaints complaints;
  for (const SourceFile& file : read_sources(root)) {
    if (file.layer != "kernels" && arrows().count(file.layer) == 0)
      complaints.push_back(fmt::format("{}: {} is no known layer", file.path.string(), file.layer));
    for (const Line& line : file.lines) check_include(root, file, line, complaints);
  }
  return complaints;
}

Complaints check_backend_names(const fs::path& root) {
  Complaints complaints;
  for (const SourceFile& file : read_sources(root)) {
    if (may_name_a_backend(file)) continue;
    for (const Line& line : file.lines)
      if (const std::string name = backend_name(line.text); !name.empty())
        complaints.push_back(fmt::format("{}: {} belongs into src/backend only", line.place, name));
  }
  return complaints;
}

Complaints check_lengths(const fs::path& root, size_t limit) {
  Complaints complaints;
  for (const SourceFile& file : read_sources(root))
    if (file.lines.size() > limit)
      complaints.push_back(
          fmt::format("{}: {} lines, at most {}", file.path.string(), file.lines.size(), limit));
  return complaints;
}

Complaints check_link_arrows(const fs::path& root) {
  static const std::regex kLayer(R"(^polar_layer\((\w+)([^)]*)\))"), kTarget(R"(\bpolar_(\w+))");
  Complaints complaints;
  std::istringstream content(read_file(root / "src" / "CMakeLists.txt"));
  for (std::string line; std::getline(content, line);) {
    std::smatch match;
    if (!std::regex_search(line, match, kLayer)) continue;
    const std::string layer = match[1], targets = match[2];
    for (std::sregex_iterator target(targets.begin(), targets.end(), kTarget), end; target != end; ++target)
      if (!reaches(layer, (*target)[1]))
        complaints.push_back(
            fmt::format("src/CMakeLists.txt: {} may not link to {}", layer, (*target)[1].str()));
  }
  return complaints;
}

std::set<std::string> listed_folders(std::string_view readme) {
  std::set<std::string> folders;
  const size_t heading = readme.find("\n## Layout\n");
  const size_t fence = heading == std::string_view::npos ? heading : readme.find("\n```", heading);
  if (fence == std::string_view::npos) return folders;
  std::istringstream block{std::string(readme.substr(fence + 1))};
  std::string line;
  std::getline(block, line);  // the opening fence
  while (std::getline(block, line) && !line.starts_with("```")) {
    std::string word = line.substr(0, line.find(' '));  // empty for an indented line
    if (word.find('/') == std::string::npos) continue;
    if (word.back() == '/') word.pop_back();
    folders.insert(word);
  }
  return folders;
}

std::set<std::string> folders_of(const std::vector<std::string>& tracked_files) {
  std::set<std::string> folders;
  for (const std::string& file : tracked_files) {
    const size_t first = file.find('/');
    if (first == std::string::npos) continue;
    const std::string top = file.substr(0, first);
    folders.insert(top);
    const size_t second = file.find('/', first + 1);
    const bool opened = top == "src" || top == "tools" || top == "tests";
    if (opened && second != std::string::npos) folders.insert(file.substr(0, second));
  }
  return folders;
}

Complaints compare_layout(const std::set<std::string>& listed, const std::set<std::string>& existing) {
  Complaints complaints;
  for (const std::string& folder : existing)
    if (listed.count(folder) == 0)
      complaints.push_back(fmt::format("{}/ is not in the README's layout", folder));
  for (const std::string& folder : listed)
    if (existing.count(folder) == 0)
      complaints.push_back(fmt::format("{}/ is in the README's layout, but not in the tree", folder));
  return complaints;
}

}  // namespace polar::house

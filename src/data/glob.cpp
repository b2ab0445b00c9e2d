#include "data/glob.h"

#include <glob.h>

#include "base/error.h"

namespace polar {

std::vector<std::filesystem::path> expand_glob(const std::string& pattern) {
  glob_t found{};
  const int status = ::glob(pattern.c_str(), GLOB_ERR, nullptr, &found);
  std::vector<std::filesystem::path> paths;
  if (status == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  if (status != 0 && status != GLOB_NOMATCH)
    fail_usage("cannot read the folder of the pattern \"{}\"", pattern);
  if (paths.empty())
    fail_usage("no file matches \"{}\" (token shards are made by `polartrain data prepare`)", pattern);
  return paths;
}

}  // namespace polar

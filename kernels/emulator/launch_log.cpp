#include "launch_log.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <set>
#include <tuple>

#include "report.h"

namespace polar::emulator {

void log_launch(const void* kernel, size_t threads, size_t shared_bytes, std::source_location where) {
  static const char* const file = std::getenv("EMULATOR_LAUNCHES");
  if (file == nullptr) return;
  static std::set<std::tuple<const void*, size_t, size_t>> known;  // the caller holds the runtime's lock
  if (!known.emplace(kernel, threads, shared_bytes).second) return;
  Dl_info symbol{};
  if (dladdr(kernel, &symbol) == 0 || symbol.dli_sname == nullptr || symbol.dli_saddr != kernel)
    fail("launch at {}: the kernel's name is not known; is the program linked with -rdynamic?", place(where));
  std::FILE* out = std::fopen(file, "a");
  if (out == nullptr) fail("EMULATOR_LAUNCHES={}: cannot be written", file);
  std::fprintf(out, "%s %zu %zu\n", symbol.dli_sname, threads, shared_bytes);
  std::fclose(out);
}

}  // namespace polar::emulator

#include "translation.h"

#include <dlfcn.h>

#include <map>
#include <string>

#include "options.h"
#include "report.h"

namespace polar::emulator {
namespace {

std::map<std::string, Translation>& all_translations() {
  static std::map<std::string, Translation> all;
  return all;
}

}  // namespace

void register_translation(Translation translation) {
  options().capability = translation.capability;
  all_translations()[translation.name] = std::move(translation);
}

bool runs_translations() {
  return !all_translations().empty();
}

const Translation& translation_of(const void* kernel, const std::vector<size_t>& parameter_bytes,
                                  std::source_location where) {
  static std::map<const void*, const Translation*> known;
  const Translation*& found = known[kernel];
  if (found == nullptr) {
    Dl_info symbol{};
    if (dladdr(kernel, &symbol) == 0 || symbol.dli_sname == nullptr || symbol.dli_saddr != kernel)
      fail("launch at {}: the kernel's name is not known; is the program linked with -rdynamic?",
           place(where));
    const auto entry = all_translations().find(symbol.dli_sname);
    if (entry == all_translations().end())
      fail("launch at {}: there is no translation of {}", place(where), symbol.dli_sname);
    if (entry->second.parameter_bytes != parameter_bytes)
      fail("launch at {}: the translation of {} has other parameters", place(where), symbol.dli_sname);
    found = &entry->second;
  }
  return *found;
}

}  // namespace polar::emulator

#include "options.h"

#include <cstdlib>
#include <string>

#include "report.h"

namespace polar::emulator {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

uint64_t number(const char* name, uint64_t otherwise) {
  const std::string text = variable(name);
  if (text.empty()) return otherwise;
  char* end = nullptr;
  const uint64_t value = std::strtoull(text.c_str(), &end, 10);
  if (*end != '\0') fail("{}={}: expected a number", name, text);
  return value;
}

Order order_from_environment() {
  const std::string text = variable("EMULATOR_ORDER");
  if (text.empty() || text == "forward") return Order::forward;
  if (text == "reverse") return Order::reverse;
  if (text == "random") return Order::random;
  fail("EMULATOR_ORDER={}: expected forward, reverse or random", text);
}

Options options_from_environment() {
  Options made;
  made.order = order_from_environment();
  made.seed = static_cast<uint32_t>(number("EMULATOR_SEED", made.seed));
  made.workers = static_cast<int>(number("EMULATOR_WORKERS", static_cast<uint64_t>(made.workers)));
  made.lazy_streams = number("EMULATOR_LAZY", 0) != 0;
  made.capability = static_cast<int>(number("EMULATOR_CAPABILITY", static_cast<uint64_t>(made.capability)));
  made.memory_limit = number("EMULATOR_MEMORY", made.memory_limit >> 20) << 20;
  return made;
}

}  // namespace

Options& options() {
  static Options all = options_from_environment();
  return all;
}

bool watches_for_races() {
#ifdef EMULATOR_TSAN
  return true;
#else
  return false;
#endif
}

}  // namespace polar::emulator

// What a configuration value may be, in words: for messages ("expected ...") and for configs/reference.yaml.
#pragma once

#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "config/key.h"

namespace polar {

std::string describe_number(std::string_view what, const Range& range);

template <class E>
std::string enum_choices() {
  std::string text;
  for (const std::string_view name : EnumNames<E>::names) text.append(text.empty() ? "" : " | ").append(name);
  return text;
}

inline std::string describe(const Key& key, int64_t) {
  return describe_number("an integer", key.range);
}
inline std::string describe(const Key&, uint64_t) {
  return "an integer from 0 to 2^64 - 1";
}
inline std::string describe(const Key& key, double) {
  return describe_number("a number", key.range);
}
inline std::string describe(const Key&, bool) {
  return "true | false";
}
inline std::string describe(const Key& key, const std::string&) {
  return key.choices.empty() ? "text" : std::string(key.choices);
}
inline std::string describe(const Key&, const std::vector<std::string>&) {
  return "a list of texts";
}
template <size_t N>
std::string describe(const Key& key, const std::array<double, N>&) {
  return "a list of " + std::to_string(N) + describe_number(" numbers", key.range);
}
template <class E>
requires std::is_enum_v<E> std::string describe(const Key&, E) {
  return enum_choices<E>();
}
template <class Name, class List>
std::string describe(const Key& key, const Coefficients<Name, List>&) {
  return std::string(key.choices) + " | a list of [a, b, c]";
}
template <class T>
std::string describe(const Key&, const std::vector<T>&) {
  return "a list of maps";
}
template <class T>
std::string describe(const Key& key, const std::optional<T>&) {
  return describe(key, T{});
}
template <class T>
requires std::is_aggregate_v<T> std::string describe(const Key&, const T&) {
  return "a map of keys";
}

}  // namespace polar

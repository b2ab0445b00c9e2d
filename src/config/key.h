// What the configuration knows about one key besides its value: name, unit, meaning, allowed values. The
// tables in config/fields.h are made of these.
#pragma once

#include <array>
#include <limits>
#include <string>
#include <string_view>

#include "data/config.h"
#include "model/config.h"
#include "optim/config.h"

namespace polar {

// The allowed interval of a number.
struct Range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false, high_open = false;

  constexpr bool contains(double x) const {
    return (low_open ? x > low : x >= low) && (high_open ? x < high : x <= high);
  }
  std::string text() const;  // "from 0 to 1", "above 0", ...
};

constexpr Range at_least(double low) {
  return {.low = low};
}
constexpr Range above(double low) {
  return {.low = low, .low_open = true};
}
constexpr Range between(double low, double high) {
  return {.low = low, .high = high};
}
constexpr Range below(double low, double high) {
  return {.low = low, .high = high, .high_open = true};
}
// Counts (steps, tokens): bounded so that no product of two sizes overflows 64 bits.
constexpr Range count(double low) {
  return {.low = low, .high = 1.0e12};
}

struct Key {
  std::string_view name;
  std::string_view unit = "";  // empty: a plain number, text or choice
  std::string_view doc;
  Range range = {};
  std::string_view choices = "";     // of a text: "auto | cpu | cuda"
  bool required = false;             // has no default
  bool applies = true;               // false: refused here and not written, because of another key,
  std::string_view applies_to = "";  // which has to be this: "kind: wsd"
  bool changes_result = true;        // part of config_hash
};

// Names of the enumerators, in the order of their values.
template <class E>
struct EnumNames;
template <>
struct EnumNames<Architecture> {
  static constexpr std::array<std::string_view, 2> names{"qwen2", "qwen3"};
};
template <>
struct EnumNames<Recompute> {
  static constexpr std::array<std::string_view, 3> names{"none", "mlp", "layer"};
};
template <>
struct EnumNames<Packing> {
  static constexpr std::array<std::string_view, 2> names{"concatenate", "documents"};
};
template <>
struct EnumNames<MomentumKind> {
  static constexpr std::array<std::string_view, 5> names{"first", "polar_first", "heavy_ball", "none",
                                                         "lion"};
};
template <>
struct EnumNames<OracleKind> {
  static constexpr std::array<std::string_view, 8> names{
      "newton_schulz", "polar_express", "qdwh", "zolo_pd", "gram_eigh", "svd", "sign", "identity"};
};
template <>
struct EnumNames<ScaleKind> {
  static constexpr std::array<std::string_view, 5> names{"nuclear", "rms_match", "spectral", "jordan",
                                                         "none"};
};
template <>
struct EnumNames<ScheduleKind> {
  static constexpr std::array<std::string_view, 5> names{"constant", "linear", "cosine", "wsd", "wsd_linear"};
};

// The values of optimizer.groups.*.type: see optim/config.h.
inline constexpr std::string_view kGroupTypes =
    "adamw | muon | polargrad | sgd | signsgd | lion | matrix | shampoo | soap";

// A value that stands in YAML either as a name or as a list of (a, b, c): oracle.coefficients.
template <class Name, class List>
struct Coefficients {
  Name& name;
  List& list;
};
inline constexpr std::string_view kCoefficientNames =
    "jordan | quintic5 | classical_quintic | classical_cubic";
inline constexpr std::string_view kOwnCoefficients =
    "custom";  // OracleConfig::coefficients where a list was given

}  // namespace polar

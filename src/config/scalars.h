// One YAML scalar to one C++ value, exactly: no 010, no 1_000, no yes/no, no rounding, no infinities.
#pragma once

#include <cstdint>
#include <string>

#include "config/key.h"
#include "config/tree.h"

namespace polar {

// Each throws Error (exit code 2): "<place>: <path>: found <...>, expected <...>".
void read_scalar(const Key& key, const ConfigNode& node, const std::string& path, int64_t& value);
void read_scalar(const Key& key, const ConfigNode& node, const std::string& path, uint64_t& value);
void read_scalar(const Key& key, const ConfigNode& node, const std::string& path, double& value);
void read_scalar(const Key& key, const ConfigNode& node, const std::string& path, bool& value);
void read_scalar(const Key& key, const ConfigNode& node, const std::string& path, std::string& value);

// The position of a name in "a | b | c"; suggests the nearest one if it is none of them.
size_t read_choice(const ConfigNode& node, const std::string& path, const std::string& choices);

[[noreturn]] void fail_value(const ConfigNode& node, const std::string& path, const std::string& expected,
                             const std::string& hint = "");

}  // namespace polar

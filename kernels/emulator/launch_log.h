// EMULATOR_LAUNCHES=FILE: which kernels were launched, and with blocks of which size. What the compiler's
// report does not know, a test run tells tools/bench/kernel_table.py.
#pragma once

#include <cstddef>
#include <source_location>

namespace polar::emulator {

// Appends `mangled_name threads dynamic_shared_bytes` to the file, once a process for the same three.
// Fails if the file cannot be written, or the program exports no names (-rdynamic).
void log_launch(const void* kernel, size_t threads, size_t shared_bytes, std::source_location where);

}  // namespace polar::emulator

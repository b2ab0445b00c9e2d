// The subcommands of `polartrain`: each add_* declares its options on the application and sets `action` to
// what shall run when it was chosen. An action returns the exit code, or throws (see main.cpp).
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"

namespace polar {

using Action = std::function<ExitCode()>;

// Version and commit, e.g. "0.1.0 (3f2a91c)".
std::string program_version();

void add_train(CLI::App& app, Action& action);
void add_eval(CLI::App& app, Action& action);
void add_generate(CLI::App& app, Action& action);
void add_tokenizer(CLI::App& app, Action& action);
void add_data(CLI::App& app, Action& action);
void add_export(CLI::App& app, Action& action);
void add_import(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);
void add_report(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_lab(CLI::App& app, Action& action);
void add_sweep(CLI::App& app, Action& action);
// Last of all, because it looks at the others' names. If `words` is a command line of `launch`, what is to be
// started is taken off its end, so that those flags are not read as ours.
void add_launch(CLI::App& app, Action& action, std::vector<std::string>& words);

}  // namespace polar

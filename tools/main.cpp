// polartrain: parses the command line, runs the chosen subcommand, turns errors into messages and exit codes.
#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include <commit.h>  // made by version.cmake
#include "base/log.h"
#include "command.h"
#include "ops/ops.h"

std::string polar::program_version() {
  return fmt::format("{} ({})", POLAR_VERSION, POLAR_COMMIT);
}

namespace {

constexpr const char* kFooter =
    "Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 stopped by a signal after saving,\n"
    "4 stopped by the loss guard, 5 a rank of several hung (the message says which, where, and for how "
    "long).\n\n"
    "Example: polartrain train configs/demo.yaml train.max_steps=20";

// The names of all subcommands, separated by commas; empty if `name` is one of them.
std::string others_than(const CLI::App& app, std::string_view name) {
  std::string names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    if (command->get_name() == name) return {};
    names += (names.empty() ? "" : ", ") + command->get_name();
  }
  return names;
}

// What stdio and iostreams still hold is written only now: a full disk must not pass for success.
void check_output() {
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (!std::cout.flush() || !written)
    polar::fail("cannot write to standard output: is the disk full, or the reader gone?");
}

int run(int argc, char** argv) {
  CLI::App app("PolarTrain: pre-trains small Qwen-style language models with PolarGrad, Muon and AdamW.",
               "polartrain");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.set_version_flag("--version", [] {
    return fmt::format("polartrain {}\n{}", polar::program_version(), polar::describe_backends());
  });
  polar::Action action;
  polar::add_train(app, action);
  polar::add_eval(app, action);
  polar::add_generate(app, action);
  polar::add_tokenizer(app, action);
  polar::add_data(app, action);
  polar::add_export(app, action);
  polar::add_import(app, action);
  polar::add_plan(app, action);
  polar::add_report(app, action);
  polar::add_bench(app, action);
  polar::add_lab(app, action);
  polar::add_sweep(app, action);
  std::vector<std::string> words(argv + 1, argv + argc);
  polar::add_launch(app, action, words);
  const std::string known = argc > 1 && argv[1][0] != '-' ? others_than(app, argv[1]) : "";
  if (!known.empty()) polar::fail_usage("there is no subcommand '{}': expected one of {}", argv[1], known);
  try {
    std::reverse(words.begin(), words.end());  // as the parser wants them
    app.parse(words);
  } catch (const CLI::ParseError& e) {
    if (app.exit(e) != 0) return static_cast<int>(polar::ExitCode::bad_usage);
    check_output();  // of --help or --version
    return 0;
  }
  const polar::ExitCode code = action();
  check_output();
  return static_cast<int>(code);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const polar::Error& e) {
    polar::log::finish_progress();
    polar::log::error("{}", e.what());
    return static_cast<int>(e.code());
  } catch (const std::bad_alloc&) {
    polar::log::error("out of memory; `polartrain plan CONFIG` shows what a run needs");
  } catch (const std::exception& e) {
    polar::log::error("{}", e.what());
  }
  return static_cast<int>(polar::ExitCode::failed);
}

// polartrain export: a checkpoint as a directory that transformers loads.
#include <memory>

#include "base/log.h"
#include "command.h"
#include "eval/exchange.h"

namespace polar {

void add_export(CLI::App& app, Action& action) {
  auto options = std::make_shared<Conversion>();
  options->dtype = "float32";
  CLI::App* command =
      app.add_subcommand("export", "Write a checkpoint's weights as a Hugging Face model directory");
  command->add_option("checkpoint", options->source, "Checkpoint, or run (its latest valid checkpoint)")
      ->required();
  command->add_option("--output", options->output, "Directory to write; must not exist")->required();
  command->add_option("--dtype", options->dtype, "Type of the weights: float32 or bfloat16")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->capture_default_str();
  command->footer(
      "A checkpoint directory itself loads in transformers too; an export holds the weights without the\n"
      "optimizer's state.\n\n"
      "Example: polartrain export runs/demo --output demo-hf --dtype bfloat16\n"
      "         python -c 'from transformers import pipeline; "
      "print(pipeline(\"text-generation\", \"demo-hf\")(\"It is\"))'");
  command->callback([options, &action] {
    action = [options] {
      const Converted done = convert_model(*options);
      for (const std::string& warning : done.warnings) log::warning("{}", warning);
      log::info("{} -> {}: {} parameters in {}", done.source.string(), options->output.string(),
                done.parameters, options->dtype);
      return ExitCode::done;
    };
  });
}

}  // namespace polar

// polartrain import: a Hugging Face model directory as a checkpoint to train, evaluate or generate from.
#include <memory>

#include "base/log.h"
#include "command.h"
#include "eval/exchange.h"

namespace polar {

void add_import(CLI::App& app, Action& action) {
  auto options = std::make_shared<Conversion>();
  options->dtype = "float32";
  CLI::App* command = app.add_subcommand("import", "Make a checkpoint of a Hugging Face model directory");
  command
      ->add_option("model", options->source,
                   "Directory with config.json (qwen2, qwen3) and safetensors, in one file or sharded")
      ->required();
  command->add_option("--output", options->output, "Checkpoint directory to write; must not exist")
      ->required();
  command->footer(
      "Every tensor's name and shape is checked against the architecture; weights become float32.\n\n"
      "Example: polartrain import Qwen2.5-0.5B --output qwen2.5-0.5b\n"
      "         polartrain train configs/x.yaml train.init_from=qwen2.5-0.5b");
  command->callback([options, &action] {
    action = [options] {
      const Converted done = convert_model(*options);
      for (const std::string& warning : done.warnings) log::warning("{}", warning);
      log::info("{} -> {}: {} parameters", done.source.string(), options->output.string(), done.parameters);
      return ExitCode::done;
    };
  });
}

}  // namespace polar

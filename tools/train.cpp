// polartrain train
#include "train/run.h"

#include <memory>
#include <string>
#include <vector>

#include "command.h"
#include "config/experiment.h"

namespace polar {

void add_train(CLI::App& app, Action& action) {
  struct Options {
    std::string config;
    std::vector<std::string> overrides;
    TrainOptions train;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("train", "Train a model as a YAML file says; continues a run that was interrupted");
  command
      ->add_option("config", options->config, "The experiment (configs/reference.yaml documents every key)")
      ->required();
  command->add_option("overrides", options->overrides,
                      "Dotted keys, e.g. train.max_steps=20 optimizer.groups.0.lr=1e-3");
  command->add_flag("--fresh", options->train.fresh,
                    "Put an earlier run in the same directory aside and start at step 0");
  command->add_flag("--change-config", options->train.change_config,
                    "Continue an earlier run although keys that decide about the result have changed");
  command->footer(
      "SIGTERM, SIGINT, SIGHUP or SIGQUIT saves a checkpoint and exits with 3 (a second one exits at once); "
      "the loss guard "
      "exits with 4, a hang of several ranks with 5.\n"
      "Example: polartrain train configs/demo.yaml train.max_steps=20 run.dir=runs/try");
  command->callback([options, &action] {
    action = [options] {
      options->train.program = program_version();
      return train(load_experiment(options->config, options->overrides), options->train);
    };
  });
}

}  // namespace polar

// polartrain generate
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include "checkpoint/store.h"
#include "command.h"
#include "config/experiment.h"
#include "data/tokenizer.h"
#include "eval/generate.h"
#include "eval/load_model.h"

namespace polar {
namespace {

namespace fs = std::filesystem;

struct GenerateOptions {
  std::string checkpoint, prompt, tokenizer, device = "auto";
  int64_t tokens = 200;
  SamplingOptions sampling;
  int threads = 0;
  bool ignore_end = false;
};

std::shared_ptr<const Tokenizer> tokenizer_of(const GenerateOptions& options, const fs::path& directory) {
  std::string spec = !options.tokenizer.empty() ? options.tokenizer : find_tokenizer(directory);
  if (spec.empty() && fs::exists(directory / "config.yaml"))
    spec = load_experiment(directory / "config.yaml", {}).data.tokenizer;
  if (spec.empty()) fail_usage("{} has no tokenizer: name one with --tokenizer", directory.string());
  return load_tokenizer(spec);
}

void check_length(int64_t prompt_tokens, int64_t new_tokens, int64_t positions) {
  if (new_tokens > positions - prompt_tokens)  // no sum: --tokens may be as large as an integer can be
    fail_usage(
        "a prompt of {} tokens and --tokens {} are too long: the model has {} positions "
        "(max_position_embeddings); use fewer --tokens or a shorter prompt",
        prompt_tokens, new_tokens, positions);
}

ExitCode run(GenerateOptions options) {
  check_sampling(options.sampling);
  if (options.tokens < 1) fail_usage("--tokens: found {}, expected >= 1", options.tokens);
  const fs::path directory = resolve_checkpoint(options.checkpoint);
  const auto tokenizer = tokenizer_of(options, directory);
  if (options.prompt == "-")
    options.prompt.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  std::vector<int32_t> prompt = tokenizer->encode(options.prompt);
  if (prompt.empty()) prompt.push_back(std::max(tokenizer->eos_id(), int32_t{0}));  // a new document

  const auto ops = make_ops({options.device, options.threads});
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  check_length(prompt_tokens, options.tokens, read_model_config(directory).max_position_embeddings);
  LoadedModel loaded(*ops, directory, ModelUse{});
  Generator generator(*ops, loaded.model(), prompt_tokens + options.tokens, tokenizer->vocab_size());
  StreamDecoder decoder(*tokenizer);
  const auto print = [](const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  if (!options.prompt.empty())
    for (const int32_t id : prompt) print(decoder.push(id));
  const std::optional<int32_t> end =
      options.ignore_end || tokenizer->eos_id() < 0 ? std::nullopt : std::optional(tokenizer->eos_id());
  generator.generate(prompt, options.tokens, options.sampling, end, [&](int32_t id) {
    print(decoder.push(id));
    return true;
  });
  print(decoder.finish() + "\n");
  return ExitCode::done;
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto options = std::make_shared<GenerateOptions>();
  CLI::App* command =
      app.add_subcommand("generate", "Continue a text with a checkpoint, streamed to the terminal");
  command
      ->add_option("checkpoint", options->checkpoint,
                   "A run (its latest checkpoint), a checkpoint or an HF directory")
      ->required();
  command->add_option("--prompt", options->prompt,
                      "The text to continue; - reads it from standard input; empty: a new document");
  command->add_option("--tokens", options->tokens, "At most so many new tokens")->capture_default_str();
  command->add_option("--temperature", options->sampling.temperature, "0: always the most likely token")
      ->capture_default_str();
  command->add_option("--top-k", options->sampling.top_k, "Only the k most likely tokens (0: all)")
      ->capture_default_str();
  command
      ->add_option("--top-p", options->sampling.top_p, "Only the most likely tokens up to this probability")
      ->capture_default_str();
  command->add_option("--seed", options->sampling.seed, "Same seed, same text")->capture_default_str();
  command->add_option("--tokenizer", options->tokenizer,
                      "A SentencePiece .model, a tokenizer.json or 'bytes'; default: the checkpoint's");
  command->add_option("--device", options->device, "auto or cpu")->capture_default_str();
  command->add_option("--threads", options->threads, "CPU threads (0: all)")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096));
  command->add_flag("--ignore-end", options->ignore_end, "Go on behind the end-of-document token");
  command->footer(
      "Example: polartrain generate runs/demo --prompt \"It is a truth\" --tokens 100 --top-p 0.9");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace polar

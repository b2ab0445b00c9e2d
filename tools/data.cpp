// polartrain data prepare|inspect|verify
#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <memory>

#include "base/log.h"
#include "command.h"
#include "data/prepare.h"
#include "data/shard.h"
#include "data/tokenizer.h"

namespace polar {
namespace {

void log_split(const char* name, const SplitCounts& counts) {
  log::info(
      "{}: {} tokens in {} documents and {} shards, {:.2f} bytes a token", name, counts.tokens,
      counts.documents, counts.shards,
      static_cast<double>(counts.text_bytes) / static_cast<double>(std::max<uint64_t>(counts.tokens, 1)));
}

void add_prepare(CLI::App& parent, Action& action) {
  auto options = std::make_shared<PrepareOptions>();
  CLI::App* app = parent.add_subcommand("prepare", "Turn text into token shards");
  app->add_option("INPUT", options->inputs, ".txt, .jsonl and .jsonl.zst files, and folders of them")
      ->required();
  app->add_option("--output", options->output, "folder of the shards; appears when all is done")->required();
  app->add_option("--tokenizer", options->tokenizer,
                  "a SentencePiece .model file, a tokenizer.json, or \"bytes\"")
      ->required();
  app->add_option("--text-field", options->text.text_field, "member of a JSON line that holds the text")
      ->capture_default_str();
  app->add_option("--document-separator", options->text.document_separator,
                  "a line of .txt files that ends a document (default: a file is one document)");
  app->add_option("--validation-fraction", options->text.validation_fraction,
                  "held-out share: the end of each .txt file; lines of .jsonl by a hash of their text")
      ->capture_default_str();
  app->add_option("--shard-tokens", options->shard_tokens, "a shard is closed after this many tokens")
      ->capture_default_str();
  app->add_option("--threads", options->threads, "0: all cores; the shards do not depend on it")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096));
  app->add_flag("--skip-bad", options->text.skip_bad_lines,
                "count and leave out JSON lines that are not as expected");
  app->add_flag("--overwrite", options->overwrite, "replace the output of an earlier run");
  app->footer("Example: polartrain data prepare data/austen --tokenizer data/demo.model --output data/demo");
  app->callback([options, &action] {
    action = [options] {
      const PrepareResult result = prepare_data(*options);
      if (result.skipped_lines > 0) log::warning("{} bad lines left out", result.skipped_lines);
      log_split("train", result.train);
      log_split("validation", result.validation);
      return ExitCode::done;
    };
  });
}

void print_shard(const Shard& shard, const Tokenizer* tokenizer, uint64_t shown) {
  const ShardInfo& info = shard.info();
  const auto or_unknown = [](uint64_t value) {
    return value > 0 ? fmt::format("{}", value) : "not recorded";
  };
  std::cout << fmt::format("{}\n", shard.path().string())
            << fmt::format("  format          {}, {}-bit tokens\n",
                           info.format == ShardInfo::Format::polar ? "polartrain 1" : "llm.c",
                           8 * info.token_bytes)
            << fmt::format("  tokens          {}\n", info.tokens)
            << fmt::format("  documents       {}\n", or_unknown(info.documents))
            << fmt::format("  text bytes      {}\n", or_unknown(info.text_bytes))
            << fmt::format("  vocabulary      {}\n", or_unknown(info.vocab_size))
            << fmt::format("  tokenizer hash  {}\n",
                           info.tokenizer_hash.empty() ? "not recorded" : info.tokenizer_hash);
  std::vector<int32_t> ids(std::min(shown, info.tokens));
  shard.read(0, ids.size(), ids.data());
  std::cout << fmt::format("  first tokens    {}\n", fmt::join(ids, " "));
  if (tokenizer != nullptr) std::cout << fmt::format("  as text         {}\n", tokenizer->decode(ids));
}

struct InspectOptions {
  std::vector<std::string> shards;
  std::string tokenizer;
  uint64_t tokens = 32;
};

ExitCode inspect(const InspectOptions& options) {
  std::shared_ptr<const Tokenizer> tokenizer;
  if (!options.tokenizer.empty()) tokenizer = load_tokenizer(options.tokenizer);
  for (const std::string& path : options.shards) {
    const Shard shard(path);
    if (tokenizer && !shard.info().tokenizer_hash.empty() && shard.info().tokenizer_hash != tokenizer->hash())
      fail_usage("{} was written with another tokenizer (hash {}) than {} (hash {})", path,
                 shard.info().tokenizer_hash, options.tokenizer, tokenizer->hash());
    print_shard(shard, tokenizer.get(), options.tokens);
  }
  return ExitCode::done;
}

void add_inspect(CLI::App& parent, Action& action) {
  auto options = std::make_shared<InspectOptions>();
  CLI::App* app = parent.add_subcommand("inspect", "Show what shards hold");
  app->add_option("SHARD", options->shards, "token shards, ours or llm.c's")
      ->required()
      ->check(CLI::ExistingFile);
  app->add_option("--tokenizer", options->tokenizer, "show the first tokens as text");
  app->add_option("--tokens", options->tokens, "how many of the first tokens to show")->capture_default_str();
  app->footer("Example: polartrain data inspect data/demo/val-00000.bin --tokenizer data/demo.model");
  app->callback([options, &action] { action = [options] { return inspect(*options); }; });
}

// Looks at all shards, also behind a bad one.
ExitCode verify(const std::vector<std::string>& shards) {
  ExitCode code = ExitCode::done;
  for (const std::string& path : shards) {
    try {
      Shard(path).verify();
      std::cout << path << ": good" << std::endl;
    } catch (const Error& fault) {
      log::error("{}", fault.what());
      code = ExitCode::failed;
    }
  }
  return code;
}

void add_verify(CLI::App& parent, Action& action) {
  auto shards = std::make_shared<std::vector<std::string>>();
  CLI::App* app =
      parent.add_subcommand("verify", "Check shards to the last byte: sizes, index, checksum, every id");
  app->add_option("SHARD", *shards, "token shards, ours or llm.c's")->required()->check(CLI::ExistingFile);
  app->footer("Exit code 1 if a shard is damaged.\nExample: polartrain data verify data/demo/*.bin");
  app->callback([shards, &action] { action = [shards] { return verify(*shards); }; });
}

}  // namespace

void add_data(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("data", "Prepare, inspect and verify token shards");
  command->require_subcommand(1);
  command->footer(
      "Example: polartrain data prepare data/austen --tokenizer data/demo.model --output data/demo");
  add_prepare(*command, action);
  add_inspect(*command, action);
  add_verify(*command, action);
}

}  // namespace polar

// polartrain tokenizer train|encode|decode
#include "data/tokenizer.h"

#include <fmt/format.h>

#include <charconv>
#include <iostream>
#include <iterator>
#include <memory>

#include "command.h"
#include "data/sentencepiece.h"

namespace polar {
namespace {

std::string text_or_stdin(const std::string& text) {
  if (text != "-") return text;
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

std::vector<int32_t> parse_ids(const std::string& text) {
  std::vector<int32_t> ids;
  constexpr const char* kBlanks = " \t\r\n,";
  for (size_t at = text.find_first_not_of(kBlanks); at != std::string::npos;
       at = text.find_first_not_of(kBlanks, at)) {
    const size_t end = std::min(text.find_first_of(kBlanks, at), text.size());
    int32_t id = 0;
    const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, id);
    if (error != std::errc() || stop != text.data() + end)
      fail_usage("\"{}\" is not a token id: expected whole numbers with blanks between them",
                 text.substr(at, end - at));
    ids.push_back(id);
    at = end;
  }
  return ids;
}

void add_train_tokenizer(CLI::App& parent, Action& action) {
  auto options = std::make_shared<SentencePieceTraining>();
  CLI::App* app = parent.add_subcommand("train", "Train a SentencePiece tokenizer on text");
  app->add_option("INPUT", options->inputs, ".txt, .jsonl and .jsonl.zst files, and folders of them")
      ->required();
  app->add_option("--output", options->output, "the .model file to write")->required();
  app->add_option("--vocab-size", options->vocab_size, "number of pieces")->capture_default_str();
  app->add_option("--type", options->type, "bpe or unigram")->capture_default_str();
  app->add_option("--character-coverage", options->character_coverage,
                  "share of all characters that get a piece of their own; the others become bytes")
      ->capture_default_str();
  app->add_option("--text-field", options->text.text_field, "member of a JSON line that holds the text")
      ->capture_default_str();
  app->add_option("--validation-fraction", options->text.validation_fraction,
                  "held-out share, as for `data prepare`; it is not looked at")
      ->capture_default_str();
  app->add_option("--sample-bytes", options->sample_bytes, "of more text than this, train on a fixed sample")
      ->capture_default_str();
  app->footer("Example: polartrain tokenizer train data/austen --output data/demo.model --vocab-size 4096");
  app->callback([options, &action] {
    action = [options] {
      train_sentencepiece(*options);
      return ExitCode::done;
    };
  });
}

struct ConvertOptions {
  std::string model, text = "-";
};

void add_convert(CLI::App& parent, Action& action, const char* name, const char* description,
                 const char* argument, const char* footer,
                 std::string (*convert)(const Tokenizer&, const std::string&)) {
  auto options = std::make_shared<ConvertOptions>();
  CLI::App* app = parent.add_subcommand(name, description);
  app->add_option("MODEL", options->model, "a SentencePiece .model file, a tokenizer.json, or \"bytes\"")
      ->required();
  app->add_option(argument, options->text, "- reads the standard input")->capture_default_str();
  app->footer(footer);
  app->callback([options, convert, &action] {
    action = [options, convert] {
      const auto tokenizer = load_tokenizer(options->model);
      std::cout << convert(*tokenizer, text_or_stdin(options->text)) << std::flush;
      return ExitCode::done;
    };
  });
}

std::string encode(const Tokenizer& tokenizer, const std::string& text) {
  return fmt::format("{}\n", fmt::join(tokenizer.encode(text), " "));
}

std::string decode(const Tokenizer& tokenizer, const std::string& text) {
  return tokenizer.decode(parse_ids(text));
}

}  // namespace

void add_tokenizer(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("tokenizer", "Train a tokenizer; encode and decode text");
  command->require_subcommand(1);
  command->footer("Example: polartrain tokenizer encode data/demo.model \"It is a truth\"");
  add_train_tokenizer(*command, action);
  add_convert(
      *command, action, "encode", "Print the token ids of a text", "TEXT",
      "Example: polartrain tokenizer encode data/demo.model \"It is a truth universally acknowledged\"",
      encode);
  add_convert(*command, action, "decode", "Print the text of token ids", "IDS",
              "Example: polartrain tokenizer encode data/demo.model \"It is\" | polartrain tokenizer decode "
              "data/demo.model",
              decode);
}

}  // namespace polar

#include <sentencepiece_trainer.h>

#include <algorithm>
#include <chrono>
#include <unordered_map>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "data/sentencepiece.h"
#include "data/text_reader.h"

namespace polar {
namespace {

constexpr uint64_t kSampleStream = stream_of("tokenizer.sample", 16);
constexpr int64_t kSpecialPieces = 260;  // <unk>, <s>, </s>, the newline and the 256 bytes

// The lines of the training text, each kept with a fixed probability: what SentencePiece's trainer reads.
class LineIterator : public sentencepiece::SentenceIterator {
 public:
  LineIterator(const SentencePieceTraining& training, double keep)
      : reader_(training.inputs, training.text, true), keep_(keep) {
    Next();
  }
  bool done() const override { return done_; }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }
  uint64_t kept_bytes() const { return kept_bytes_; }

  void Next() override {
    do {
      if (!next_line()) {
        done_ = true;
        return;
      }
    } while (line_.empty() || random_uniform(0, kSampleStream, line_number_++) >= keep_);
    kept_bytes_ += line_.size();
  }

 private:
  bool next_line() {
    while (at_ >= fragment_.text.size()) {
      if (!reader_.next(fragment_)) return false;
      if (fragment_.held_out) fragment_.text.clear();
      at_ = 0;
    }
    const size_t end = std::min(fragment_.text.find('\n', at_), fragment_.text.size());
    line_.assign(fragment_.text, at_, end - at_);
    at_ = end + 1;
    return true;
  }
  TextReader reader_;
  double keep_;
  Fragment fragment_;
  size_t at_ = 0;
  std::string line_;
  uint64_t line_number_ = 0, kept_bytes_ = 0;
  bool done_ = false;
};

// The library's message, less its own source line and condition ("file.cc(334) [condition] message"), and
// with the name that our command gives the option it advises.
std::string reason_of(const sentencepiece::util::Status& status) {
  std::string message = status.error_message();
  if (const size_t end = message.find("] "); end != std::string::npos) message.erase(0, end + 2);
  if (const size_t option = message.find("--character_coverage"); option != std::string::npos)
    message.replace(option, 20, "--character-coverage");
  return message;
}

void check(const SentencePieceTraining& training) {
  if (training.type != "bpe" && training.type != "unigram")
    fail_usage("the tokenizer type is \"{}\", expected bpe or unigram", training.type);
  if (training.vocab_size <= kSpecialPieces || training.vocab_size > 1'000'000)
    fail_usage("the vocabulary size is {}, expected more than {} (special pieces and bytes), at most 1000000",
               training.vocab_size, kSpecialPieces);
  if (!(training.character_coverage > 0.9 && training.character_coverage <= 1))
    fail_usage("the character coverage is {}, expected above 0.9 and at most 1", training.character_coverage);
}

std::unordered_map<std::string, std::string> trainer_options(const SentencePieceTraining& training) {
  return {{"model_type", training.type},
          {"vocab_size", fmt::format("{}", training.vocab_size)},
          {"character_coverage", fmt::format("{}", training.character_coverage)},
          {"byte_fallback", "true"},
          {"user_defined_symbols", "\n"},
          {"normalization_rule_name", "identity"},
          {"add_dummy_prefix", "false"},
          {"remove_extra_whitespaces", "false"},
          {"allow_whitespace_only_pieces", "true"},
          {"split_digits", "true"},
          {"input_sentence_size", "0"},
          {"shuffle_input_sentence", "false"},
          {"max_sentence_length", "1000000000"},
          {"num_threads", "1"},  // sums over threads depend on their number
          {"minloglevel", "2"}};
}

}  // namespace

void train_sentencepiece(const SentencePieceTraining& training) {
  check(training);
  const auto begin = std::chrono::steady_clock::now();
  const uint64_t total = TextReader(training.inputs, training.text, true).total_bytes();
  const double keep = std::min(1.0, static_cast<double>(training.sample_bytes) / static_cast<double>(total));
  LineIterator lines(training, keep);
  if (lines.done()) fail_usage("the inputs hold no text to train a tokenizer on");
  log::info("training a {} tokenizer of {} pieces on {:.1f} MB of text", training.type, training.vocab_size,
            static_cast<double>(total) * keep / 1e6);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(trainer_options(training), &lines, &model);
  if (!status.ok())
    fail_usage("cannot train a tokenizer of {} pieces on {} bytes of text: {}", training.vocab_size,
               lines.kept_bytes(), reason_of(status));
  if (training.output.has_parent_path()) std::filesystem::create_directories(training.output.parent_path());
  write_file_atomically(training.output, model);
  log::info("{}: {} pieces from {:.1f} MB in {:.1f} s", training.output.string(),
            load_sentencepiece(training.output)->vocab_size(), static_cast<double>(lines.kept_bytes()) / 1e6,
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
}

}  // namespace polar

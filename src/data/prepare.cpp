#include "data/prepare.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <utility>

#include "base/atomic_directory.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "data/encoder.h"
#include "data/shard_writer.h"
#include "data/text_reader.h"
#include "data/tokenizer.h"

namespace polar {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr size_t kJobBytes = size_t{1} << 18;
constexpr const char* kManifest = "manifest.json";

// The shards of one split, one after the other.
class SplitWriter {
 public:
  SplitWriter(fs::path folder, std::string name, const Tokenizer& tokenizer, uint64_t shard_tokens)
      : folder_(std::move(folder)),
        name_(std::move(name)),
        tokenizer_(tokenizer),
        shard_tokens_(shard_tokens) {}

  void add(const Fragment& fragment, std::span<const int32_t> ids) {
    if (!writer_) {
      file_name_ = fmt::format("{}-{:05}.bin", name_, counts_.shards);
      writer_.emplace(folder_ / file_name_, static_cast<uint64_t>(tokenizer_.vocab_size()),
                      tokenizer_.hash());
    }
    writer_->append(ids, fragment.text.size());
    if (!fragment.ends_document) return;
    const int32_t eos = tokenizer_.eos_id();
    if (eos >= 0) writer_->append({&eos, 1}, 0);
    writer_->end_document();
    if (writer_->info().tokens >= shard_tokens_) close();
  }
  void close() {
    if (!writer_) return;
    const std::string sum = writer_->close();
    const ShardInfo& info = writer_->info();
    shards_.push_back({{"file", file_name_},
                       {"split", name_},
                       {"tokens", info.tokens},
                       {"documents", info.documents},
                       {"text_bytes", info.text_bytes},
                       {"checksum", sum}});
    ++counts_.shards;
    counts_.tokens += info.tokens;
    counts_.documents += info.documents;
    counts_.text_bytes += info.text_bytes;
    writer_.reset();
  }
  const SplitCounts& counts() const { return counts_; }
  const nlohmann::ordered_json& shards() const { return shards_; }

 private:
  fs::path folder_;
  std::string name_, file_name_;
  const Tokenizer& tokenizer_;
  uint64_t shard_tokens_;
  std::optional<ShardWriter> writer_;
  SplitCounts counts_;
  nlohmann::ordered_json shards_ = nlohmann::ordered_json::array();
};

void check_output(const fs::path& output, bool overwrite) {
  if (!fs::exists(output)) return;
  if (!fs::is_directory(output)) fail_usage("the output {} exists and is not a folder", output.string());
  if (fs::is_empty(output)) return;
  if (!fs::exists(output / kManifest))
    fail_usage("the output {} holds other files than prepared data: name another folder", output.string());
  if (!overwrite)
    fail_usage("the output {} holds prepared data already: --overwrite replaces it", output.string());
}

class Preparation {
 public:
  Preparation(const PrepareOptions& options, const Tokenizer& tokenizer, const fs::path& folder)
      : reader_(options.inputs, options.text, tokenizer.splits_at_newlines()),
        encoder_(tokenizer,
                 options.threads > 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency())),
        train_(folder, "train", tokenizer, options.shard_tokens),
        validation_(folder, "val", tokenizer, options.shard_tokens) {}

  // Reading and writing is this thread's work, encoding that of the others.
  PrepareResult run() {
    for (EncodeJob job = read_job(); !job.fragments.empty(); job = read_job()) {
      encoder_.submit(std::move(job));
      if (encoder_.in_flight() >= encoder_.capacity()) write_job();
    }
    while (encoder_.in_flight() > 0) write_job();
    train_.close();
    validation_.close();
    show_progress(true);
    return {train_.counts(), validation_.counts(), reader_.skipped_lines()};
  }
  nlohmann::ordered_json shards() const {
    nlohmann::ordered_json all = train_.shards();
    for (const auto& shard : validation_.shards()) all.push_back(shard);
    return all;
  }

 private:
  EncodeJob read_job() {
    EncodeJob job;
    Fragment fragment;
    for (size_t bytes = 0; bytes < kJobBytes && reader_.next(fragment);
         bytes += job.fragments.back().text.size())
      job.fragments.push_back(std::move(fragment));
    return job;
  }
  void write_job() {
    const EncodeJob job = encoder_.take();
    for (size_t i = 0; i < job.fragments.size(); ++i) {
      const Fragment& fragment = job.fragments[i];
      (fragment.held_out ? validation_ : train_).add(fragment, job.ids[i]);
      text_bytes_ += fragment.text.size();
      tokens_ += job.ids[i].size();
    }
    show_progress(false);
  }
  void show_progress(bool at_end) {
    const Clock::time_point now = Clock::now();
    if (!at_end && now - shown_ < std::chrono::milliseconds(log::is_terminal() ? 200 : 10'000)) return;
    shown_ = now;
    const double seconds = std::chrono::duration<double>(now - begin_).count();
    const double megabytes = static_cast<double>(text_bytes_) / 1e6;
    log::progress(fmt::format("{:3.0f} %  {:.1f} MB of text  {:.2f} M tokens  {:.1f} MB/s",
                              100.0 * static_cast<double>(reader_.position()) /
                                  static_cast<double>(std::max<uint64_t>(reader_.total_bytes(), 1)),
                              megabytes, static_cast<double>(tokens_) / 1e6,
                              megabytes / std::max(seconds, 1e-9)));
    if (at_end) log::finish_progress();
  }

  TextReader reader_;
  ParallelEncoder encoder_;
  SplitWriter train_, validation_;
  uint64_t text_bytes_ = 0, tokens_ = 0;
  Clock::time_point begin_ = Clock::now(), shown_ = begin_;
};

nlohmann::ordered_json to_json(const SplitCounts& counts) {
  return {{"shards", counts.shards},
          {"documents", counts.documents},
          {"tokens", counts.tokens},
          {"text_bytes", counts.text_bytes}};
}

}  // namespace

PrepareResult prepare_data(const PrepareOptions& options) {
  const auto tokenizer = load_tokenizer(options.tokenizer);
  const fs::path output = directory_path(options.output);
  for (const std::string& line : settle_directory(output)) log::info("{}", line);
  check_output(output, options.overwrite);
  AtomicDirectory folder(output);
  Preparation preparation(options, *tokenizer, folder.path());
  const PrepareResult result = preparation.run();
  if (result.train.tokens == 0) fail_usage("the inputs hold no text to train on");
  const nlohmann::ordered_json manifest = {{"format", "polartrain data"},
                                           {"version", 1},
                                           {"tokenizer", options.tokenizer},
                                           {"tokenizer_hash", tokenizer->hash()},
                                           {"vocab_size", tokenizer->vocab_size()},
                                           {"train", to_json(result.train)},
                                           {"validation", to_json(result.validation)},
                                           {"skipped_lines", result.skipped_lines},
                                           {"shards", preparation.shards()}};
  write_file_atomically(folder.path() / kManifest, manifest.dump(2) + "\n");
  folder.publish();
  return result;
}

}  // namespace polar

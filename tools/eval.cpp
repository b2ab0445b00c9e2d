// polartrain eval
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/random.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/store.h"
#include "command.h"
#include "config/experiment.h"
#include "data/tokenizer.h"
#include "eval/evaluate.h"
#include "eval/load_model.h"
#include "eval/sampler.h"

namespace polar {
namespace {

namespace fs = std::filesystem;

struct EvalOptions {
  std::string checkpoint, tokenizer, logits, device = "auto";
  std::vector<std::string> data;
  int64_t sequence_length = 0, sequences = 0, micro_sequences = 8;
  int threads = 0;
  bool json = false;
};

// Fills what the command line leaves open from the configuration that a checkpoint of ours carries.
DataConfig data_of(const EvalOptions& options, const fs::path& directory) {
  DataConfig data;
  if (fs::exists(directory / "config.yaml")) data = load_experiment(directory / "config.yaml", {}).data;
  if (!options.data.empty()) {
    data.validation.clear();
    for (const std::string& path : options.data) data.validation.push_back({path, 1.0});
  }
  if (options.sequence_length > 0) data.sequence_length = options.sequence_length;
  const std::string own = find_tokenizer(directory);
  data.tokenizer = !options.tokenizer.empty() ? options.tokenizer : !own.empty() ? own : data.tokenizer;
  if (data.validation.empty())
    fail_usage("{} says no validation data: name token shards with --data", directory.string());
  if (data.sequence_length <= 0)
    fail_usage("{} says no sequence length: give --sequence-length", directory.string());
  return data;
}

// Logits of 32 fixed pseudo-random ids, for a comparison with other implementations.
void write_logits(Ops& ops, const fs::path& directory, const fs::path& file) {
  ModelUse use;
  use.time = 32;
  LoadedModel loaded(ops, directory, use);
  const int64_t vocabulary = loaded.model().config().vocab_size;
  MemoryPlan plan;
  const BufferId ids_id = plan.add("input", "ids", DType::i32, {1, use.time});
  const BufferId logits_id = plan.add("activations", "logits", DType::f32, {1, use.time, vocabulary});
  const PlannedMemory memory(plan, ops, MemoryKind::device);
  std::vector<int32_t> ids(static_cast<size_t>(use.time));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(random_bits(0, 0, i) % static_cast<uint64_t>(vocabulary));
  ModelBatch batch;
  batch.batch = 1;
  batch.time = use.time;
  batch.ids = memory[ids_id];
  ops.upload(batch.ids, ids.data());
  ops.gemm(Transpose::no, Transpose::yes, 1.0, loaded.model().forward_hidden(batch), loaded.model().head(),
           0.0, memory[logits_id]);
  std::vector<float> logits(static_cast<size_t>(use.time * vocabulary));
  ops.download(logits.data(), memory[logits_id]);
  apply_softcap(logits, loaded.model().config().logit_softcap);
  const std::vector<NamedTensor> tensors{{"ids", {ids.data(), DType::i32, {1, use.time}}},
                                         {"logits", {logits.data(), DType::f32, {1, use.time, vocabulary}}}};
  write_safetensors(file, tensors);
  log::info("logits of {} ids written to {}", use.time, file.string());
}

Evaluation run_evaluation(Ops& ops, const fs::path& directory, const DataConfig& data,
                          const EvalOptions& options) {
  LoaderOptions loading;
  loading.sources = data.validation;
  loading.sequence_length = data.sequence_length;
  loading.packing = data.packing;
  loading.order = SampleOrder::sequential;
  loading.vocab_size = read_model_config(directory).vocab_size;
  if (!data.tokenizer.empty()) loading.tokenizer_hash = load_tokenizer(data.tokenizer)->hash();
  const Loader loader(loading);

  ModelUse use;
  use.micro_sequences = options.micro_sequences;
  use.time = data.sequence_length;
  LoadedModel loaded(ops, directory, use);
  MemoryPlan plan;
  const Shape shape{use.micro_sequences, use.time};
  const auto add = [&](const char* name) { return plan.add("input", name, DType::i32, shape); };
  const BufferId ids = add("ids"), targets = add("targets"), starts = add("document starts");
  const BufferId loss = plan.add("control", "loss sum", DType::f64, {1});
  const PlannedMemory device(plan, ops, MemoryKind::device), host(plan, ops, MemoryKind::host);
  const bool documents = data.packing == Packing::documents;
  EvaluationMemory memory;
  memory.micro_sequences = use.micro_sequences;
  memory.host = {host[ids], host[targets], documents ? host[starts] : Tensor{}};
  memory.device = {device[ids], device[targets], documents ? device[starts] : Tensor{}};
  memory.loss_sum = device[loss];
  const EvaluationSums sums =
      sum_losses(ops, loaded.model(), loader, 0, evaluated_windows(loader, options.sequences), memory,
                 [](int64_t done, int64_t all) {
                   if (log::is_terminal())
                     log::progress(fmt::format("evaluating {}/{} sequences", done, all));
                 });
  return evaluation_of(sums, loader.knows_text_bytes());
}

ExitCode run(const EvalOptions& options) {
  const fs::path directory = resolve_checkpoint(options.checkpoint);
  const auto ops = make_ops({options.device, options.threads});
  if (!options.logits.empty()) {
    write_logits(*ops, directory, options.logits);
    if (options.data.empty()) return ExitCode::done;
  }
  if (options.micro_sequences < 1)
    fail_usage("--micro-sequences: found {}, expected >= 1", options.micro_sequences);
  if (options.sequences < 0) fail_usage("--sequences: found {}, expected >= 0 (0: all)", options.sequences);
  const Evaluation e = run_evaluation(*ops, directory, data_of(options, directory), options);
  log::finish_progress();
  if (options.json) {
    nlohmann::ordered_json json{{"checkpoint", directory.string()},
                                {"tokens", e.tokens},
                                {"loss", e.loss},
                                {"perplexity", e.perplexity()}};
    json["bits_per_byte"] =
        e.bits_per_byte ? nlohmann::ordered_json(*e.bits_per_byte) : nlohmann::ordered_json();
    std::printf("%s\n", json.dump().c_str());
  } else {
    std::printf("loss           %.6f nats a token\nperplexity     %.4f\n", e.loss, e.perplexity());
    if (e.bits_per_byte) std::printf("bits per byte  %.6f\n", *e.bits_per_byte);
    std::printf("tokens         %lld\n", static_cast<long long>(e.tokens));
  }
  return ExitCode::done;
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command =
      app.add_subcommand("eval", "Validation loss, perplexity and bits per byte of a checkpoint");
  command
      ->add_option("checkpoint", options->checkpoint,
                   "A run (its latest checkpoint), a checkpoint or an HF directory")
      ->required();
  command->add_option("--data", options->data,
                      "Token shards (glob patterns); default: the run's validation split");
  command->add_option("--tokenizer", options->tokenizer,
                      "Tokenizer of the shards; default: the checkpoint's");
  command->add_option("--sequence-length", options->sequence_length, "Tokens of a window; default: the run's")
      ->check(CLI::Range(1, 1 << 24));
  command->add_option("--sequences", options->sequences, "How many windows (0: all)")->capture_default_str();
  command->add_option("--micro-sequences", options->micro_sequences, "Windows computed at once")
      ->capture_default_str();
  command->add_option("--device", options->device, "auto or cpu")->capture_default_str();
  command->add_option("--threads", options->threads, "CPU threads (0: all)")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096));
  command->add_flag("--json", options->json, "Print one JSON object");
  command->add_option("--logits", options->logits,
                      "Write the logits (after soft-cap) of 32 fixed ids to this safetensors file");
  command->footer("Example: polartrain eval runs/demo --json");
  command->callback([options, &action] { action = [options] { return run(*options); }; });
}

}  // namespace polar

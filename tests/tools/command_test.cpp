// The command as a user meets it: help, version, exit codes, and what it says of bad input.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "process.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

Finished polartrain(std::vector<std::string> arguments, const std::string& input = "") {
  arguments.insert(arguments.begin(), command_under_test(POLAR_BINARY));
  return run_process(std::move(arguments), input);
}

class Help : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(Help, HasAnExample) {
  std::vector<std::string> arguments = GetParam();
  arguments.push_back("--help");
  const Finished help = polartrain(arguments);
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.output, HasSubstr("Example: polartrain "));
}

INSTANTIATE_TEST_SUITE_P(
    Commands, Help,
    testing::Values(std::vector<std::string>{}, std::vector<std::string>{"train"},
                    std::vector<std::string>{"eval"}, std::vector<std::string>{"generate"},
                    std::vector<std::string>{"tokenizer"}, std::vector<std::string>{"tokenizer", "train"},
                    std::vector<std::string>{"tokenizer", "encode"},
                    std::vector<std::string>{"tokenizer", "decode"}, std::vector<std::string>{"data"},
                    std::vector<std::string>{"data", "prepare"}, std::vector<std::string>{"data", "inspect"},
                    std::vector<std::string>{"data", "verify"}, std::vector<std::string>{"export"},
                    std::vector<std::string>{"import"}, std::vector<std::string>{"plan"},
                    std::vector<std::string>{"report"}, std::vector<std::string>{"bench"},
                    std::vector<std::string>{"bench", "step"}, std::vector<std::string>{"bench", "gemm"},
                    std::vector<std::string>{"bench", "polar"},
                    std::vector<std::string>{"bench", "attention"}, std::vector<std::string>{"bench", "comm"},
                    std::vector<std::string>{"lab"}, std::vector<std::string>{"lab", "all"},
                    std::vector<std::string>{"lab", "completion"}));

TEST(Version, NamesVersionCommitAndBackends) {
  const Finished version = polartrain({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_THAT(version.output, testing::ContainsRegex("polartrain [0-9]+\\.[0-9]+\\.[0-9]+ \\(.+\\)"));
  EXPECT_THAT(version.output, HasSubstr("cpu"));
}

// One prepared data set, one short run and one plain file for all cases below.
class Command : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = new TemporaryDirectory;
    put(path("text.txt"),
        read_file(fs::path(POLAR_SOURCE_DIR) / "data/austen/northanger_abbey.txt").substr(0, 30'000));
    ASSERT_EQ(polartrain({"data", "prepare", path("text.txt"), "--output", path("tokens"), "--tokenizer",
                          "bytes", "--validation-fraction", "0.1"})
                  .code,
              0);
    std::ofstream(path("config.yaml"))
        << "run: {name: tiny, dir: " << path("run") << "}\n"
        << "model: {architecture: qwen2, vocab_size: 257, hidden_size: 32, num_hidden_layers: 1,\n"
           "        num_attention_heads: 2, num_key_value_heads: 1, intermediate_size: 32}\n"
           "batch: {global_tokens: 128}\noptimizer: {groups: [{match: ['*'], type: adamw, lr: 1.0e-3}]}\n"
           "train: {max_steps: 3}\n"
        << "data: {sequence_length: 32, tokenizer: bytes, train: [{path: " << path("tokens")
        << "/train-*.bin}], validation: [{path: " << path("tokens") << "/val-*.bin}]}\n";
    const Finished trained = polartrain({"train", path("config.yaml")});
    ASSERT_EQ(trained.code, 0) << trained.output;
  }
  static void TearDownTestSuite() { delete directory_; }
  static std::string path(const std::string& name) { return (directory_->path() / name).string(); }
  static std::string checkpoint() { return path("run/checkpoints/step-00000003"); }
  // A copy of the checkpoint that a case may damage.
  static std::string damaged_copy(const std::string& name) {
    fs::remove_all(path(name));
    fs::copy(checkpoint(), path(name), fs::copy_options::recursive);
    return path(name);
  }

  static void expect_refused(const std::vector<std::string>& arguments, int code,
                             const std::vector<std::string>& parts) {
    const Finished result = polartrain(arguments);
    std::string line;
    for (const std::string& argument : arguments) line += argument + " ";
    EXPECT_EQ(result.code, code) << line << "\n" << result.output;
    for (const std::string& part : parts) EXPECT_THAT(result.output, HasSubstr(part)) << line;
  }

 private:
  static inline TemporaryDirectory* directory_ = nullptr;
};

TEST_F(Command, TheWholePathWorks) {
  const Finished evaluated = polartrain({"eval", path("run"), "--json"});
  ASSERT_EQ(evaluated.code, 0) << evaluated.output;
  const auto json = nlohmann::json::parse(evaluated.output);
  EXPECT_GT(json.at("loss").get<double>(), 0.0);
  EXPECT_GT(json.at("bits_per_byte").get<double>(), 0.0);
  // The evaluation of the run's end and that of its checkpoint are the same computation.
  const std::string metrics = read_file(path("run/metrics.jsonl"));
  const auto last = nlohmann::json::parse(metrics.substr(metrics.rfind('\n', metrics.size() - 2) + 1));
  EXPECT_DOUBLE_EQ(json.at("loss").get<double>(), last.at("val_loss").get<double>());

  EXPECT_EQ(polartrain({"generate", path("run"), "--prompt", "It is", "--tokens", "20"}).code, 0);
  EXPECT_EQ(polartrain({"export", path("run"), "--output", path("exported")}).code, 0);
  EXPECT_EQ(polartrain({"import", path("exported"), "--output", path("imported")}).code, 0);
  const Finished again = polartrain({"eval", path("imported"), "--data", path("tokens/val-00000.bin"),
                                     "--sequence-length", "32", "--tokenizer", "bytes", "--json"});
  ASSERT_EQ(again.code, 0) << again.output;
  EXPECT_EQ(nlohmann::json::parse(again.output).at("loss"), json.at("loss"));
  EXPECT_EQ(polartrain({"report", path("run")}).code, 0);
  EXPECT_EQ(polartrain({"plan", path("config.yaml")}).code, 0);
  EXPECT_EQ(polartrain({"data", "verify", path("tokens/train-00000.bin")}).code, 0);
  EXPECT_EQ(polartrain({"train", path("config.yaml"), "run.dir=" + path("continued"),
                        "train.init_from=" + path("exported")})
                .code,
            0);
}

TEST_F(Command, ThePlanAgreesWithTheRun) {
  const Finished plan = polartrain({"plan", path("config.yaml"), "--json"});
  ASSERT_EQ(plan.code, 0) << plan.output;
  const auto json = nlohmann::json::parse(plan.output);
  const std::string metrics = read_file(path("run/metrics.jsonl"));
  const auto first = nlohmann::json::parse(metrics.substr(0, metrics.find('\n')));
  EXPECT_EQ(json.at("device_bytes").get<int64_t>() + json.at("host_bytes").get<int64_t>(),
            first.at("memory_bytes").get<int64_t>());
}

TEST_F(Command, ThePlanOfSeveralRanks) {
  const Finished plan = polartrain({"plan", path("config.yaml"), "--world-size", "2"});
  ASSERT_EQ(plan.code, 0) << plan.output;
  for (const char* part : {"sharing among 2 ranks", "padding", "element-wise parameters", "a rank sends"})
    EXPECT_THAT(plan.output, HasSubstr(part));
  EXPECT_EQ(polartrain({"plan", path("config.yaml"), "--world-size", "0"}).code, 2);
}

// Half a million tokens on a machine that is described only; the CPU's memory plan is in every binary.
TEST_F(Command, TheSimulationOfARun) {
  const std::string preset = POLAR_SOURCE_DIR "/configs/models/124m.yaml",
                    hardware = POLAR_SOURCE_DIR "/configs/hardware/2-core-cpu.yaml";
  const Finished table = polartrain({"plan", preset, "--simulate", hardware, "--ranks", "1,2,3"});
  ASSERT_EQ(table.code, 0) << table.output;
  for (const char* part :
       {"nothing measured", "tokens/s", "exposed", "among 3 ranks", "micro_sequences:", "launch"})
    EXPECT_THAT(table.output, HasSubstr(part));
  const Finished all = polartrain({"plan", preset, "--simulate", hardware, "--json"});
  ASSERT_EQ(all.code, 0) << all.output;
  const auto json = nlohmann::json::parse(all.output);
  ASSERT_EQ(json.at("rows").size(), 11u);
  EXPECT_EQ(json.at("rows").at(10).at("ranks"), 1024);
  EXPECT_THAT(json.at("rows").at(2).at("refusal").get<std::string>(), HasSubstr("network"));
  const auto& two = json.at("rows").at(1).at("configured");
  EXPECT_GT(two.at("components_s").at("all_gather").get<double>(), 0.0);
  EXPECT_NEAR(two.at("tokens_per_s").get<double>() * two.at("step_s").get<double>(), 524288.0, 1.0);
  // The plan of two ranks sends as much.
  const Finished plan = polartrain(
      {"plan", preset, "--world-size", "2", "--device", "cpu", "--json", "batch.micro_sequences=8"});
  const auto sharding = nlohmann::json::parse(plan.output).at("sharding");
  EXPECT_EQ(two.at("elements_sent"), sharding.at("elements_sent_a_step"));

  expect_refused({"plan", preset, "--simulate", path("config.yaml")}, 2,
                 {"config.yaml", "'run'", "hardware"});
  expect_refused({"plan", preset, "--simulate", hardware, "--world-size", "2"}, 2, {"--world-size"});
  expect_refused({"plan", preset, "--ranks", "2"}, 2, {"--simulate"});
  expect_refused({"plan", preset, "--simulate", hardware, "--ranks", "0"}, 2, {"--ranks"});
  expect_refused({"plan", preset, "--simulate", hardware, "--efficiency", "2"}, 2, {"--efficiency"});
}

TEST_F(Command, TheLinksBetweenTwoRanks) {
  const Finished bench = polartrain(
      {"launch", "--nproc-per-node", "2", "bench", "comm", "--device", "cpu", "--repeats", "1", "--json"});
  ASSERT_EQ(bench.code, 0) << bench.output;
  const size_t begin = bench.output.find('{');
  ASSERT_NE(begin, std::string::npos) << bench.output;
  const auto json = nlohmann::json::parse(bench.output.substr(begin, bench.output.find('\n', begin) - begin));
  EXPECT_EQ(json.at("ranks"), 2);
  for (const auto& row : json.at("rows")) EXPECT_GT(row.at("ms").get<double>(), 0.0) << row;
  const auto& last = json.at("rows").back();
  EXPECT_EQ(last.at("name"), "all_gather");
  EXPECT_EQ(last.at("bytes_sent"), 1 << 25);  // one of two parts of 64 MiB
  expect_refused({"bench", "comm"}, 2, {"one process", "launch --nproc-per-node 2 bench comm"});
}

// The CPU has no bf16: what would compute refuses it, the plan says what it shows instead.
TEST_F(Command, FormatsThatTheDeviceDoesNotHave) {
  for (const char* key : {"precision.compute", "precision.gradients"}) {
    const std::string asked = std::string(key) + "=bf16";
    expect_refused({"bench", "step", path("config.yaml"), asked, "--repeats", "1"}, 2, {key, "bf16", "fp32"});
    const Finished plan = polartrain({"plan", path("config.yaml"), asked});
    EXPECT_EQ(plan.code, 0) << plan.output;
    EXPECT_THAT(plan.output, HasSubstr(std::string(key) + " bf16: this device computes in fp32"));
  }
}

// The logits for other implementations are what the model computes its loss from.
TEST_F(Command, WrittenLogitsAreCapped) {
  constexpr float kCap = 0.125f;
  const std::string run = path("capped"), file = path("logits.safetensors");
  ASSERT_EQ(polartrain({"train", path("config.yaml"), "run.dir=" + run, "train.max_steps=1",
                        "model.initializer_range=1", fmt::format("model.logit_softcap={}", kCap)})
                .code,
            0);
  ASSERT_EQ(polartrain({"eval", run, "--logits", file}).code, 0);
  const std::string content = read_file(file);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, content.data(), sizeof(header_bytes));
  const auto header = nlohmann::json::parse(content.substr(8, header_bytes));
  const auto [begin, end] = header.at("logits").at("data_offsets").get<std::pair<size_t, size_t>>();
  std::vector<float> logits((end - begin) / sizeof(float));
  std::memcpy(logits.data(), content.data() + 8 + header_bytes + begin, end - begin);
  const auto [least, largest] = std::minmax_element(logits.begin(), logits.end());
  EXPECT_GE(*least, -kCap);
  EXPECT_LE(*largest, kCap);
  EXPECT_GT(*largest, 0.9f * kCap);  // the cap is what bounds them
}

// A model's vocabulary may be padded beyond the tokenizer's: then nothing is drawn that is no text.
TEST_F(Command, PaddedVocabulariesGenerateText) {
  ASSERT_EQ(polartrain({"train", path("config.yaml"), "model.vocab_size=4000", "train.max_steps=1",
                        "run.dir=" + path("padded")})
                .code,
            0);
  const Finished text = polartrain({"generate", path("padded"), "--prompt", "a", "--tokens", "31",
                                    "--temperature", "100", "--ignore-end"});
  EXPECT_EQ(text.code, 0) << text.output;
}

TEST_F(Command, OutputThatCannotBeWrittenIsAnError) {
  const std::vector<std::string> commands{"plan " + path("config.yaml"),
                                          "data inspect " + path("tokens/val-00000.bin"),
                                          "tokenizer encode bytes text", "--version"};
  for (const std::string& command : commands) {
    const Finished full =
        run_process({"/bin/sh", "-c", command_under_test(POLAR_BINARY) + " " + command + " > /dev/full"});
    EXPECT_EQ(full.code, 1) << command << "\n" << full.output;
    EXPECT_THAT(full.output, HasSubstr("cannot write to standard output")) << command;
  }
}

TEST_F(Command, TheSameSeedWritesTheSameText) {
  const std::vector<std::string> arguments{"generate", checkpoint(), "--prompt", "She", "--tokens", "20",
                                           "--top-k",  "50",         "--top-p",  "0.9", "--seed",   "4"};
  EXPECT_EQ(polartrain(arguments).output, polartrain(arguments).output);
  std::vector<std::string> other = arguments;
  other.back() = "5";
  EXPECT_NE(polartrain(arguments).output, polartrain(other).output);
}

TEST_F(Command, BadUsage) {
  expect_refused({}, 2, {"subcommand"});
  expect_refused({"trian"}, 2, {"trian"});
  expect_refused({"train"}, 2, {"config"});
  expect_refused({"train", path("none.yaml")}, 2, {"none.yaml"});
  expect_refused({"train", path("config.yaml"), "--no-such-option"}, 2, {"--no-such-option"});
  expect_refused({"train", path("config.yaml"), "train.max_stpes=3"}, 2, {"max_stpes", "max_steps"});
  expect_refused({"train", path("config.yaml"), "run.device=tpu"}, 2, {"run.device", "tpu"});
  expect_refused({"train", path("config.yaml"), "run.dir=" + path("text.txt")}, 2, {"text.txt", "directory"});
  expect_refused({"train", path("config.yaml"), "run.dir=" + path("new"), "batch.micro_sequences=3"}, 2,
                 {"micro_sequences", "3"});
  expect_refused(
      {"train", path("config.yaml"), "run.dir=" + path("new"), "data.train.0.path=" + path("no-*.bin")}, 2,
      {"no-*.bin"});
  expect_refused({"train", path("config.yaml"), "run.dir=" + path("new"), "model.vocab_size=100"}, 2,
                 {"257", "100"});
  expect_refused(
      {"train", path("config.yaml"), "run.dir=" + path("new"), "data.tokenizer=" + path("text.txt")}, 2,
      {"text.txt"});
  expect_refused(
      {"train", path("config.yaml"), "run.dir=" + path("new"), "train.init_from=" + path("tokens")}, 2,
      {"tokens"});
  expect_refused({"train", path("config.yaml"), "run.dir=" + path("new"),
                  "optimizer.groups.0.match=[model.*]", "model.tie_word_embeddings=false"},
                 2, {"lm_head.weight"});
  expect_refused({"train", path("config.yaml"), "train.max_steps=9"}, 2,
                 {"train.max_steps", "--change-config"});
}

TEST_F(Command, BadCheckpoints) {
  expect_refused({"eval", path("nowhere")}, 2, {"nowhere"});
  expect_refused({"eval", path("tokens")}, 2, {"tokens"});
  expect_refused({"eval", checkpoint(), "--data", path("none-*.bin")}, 2, {"none-*.bin"});
  expect_refused({"eval", checkpoint(), "--micro-sequences", "0"}, 2, {"--micro-sequences"});
  expect_refused({"eval", checkpoint(), "--sequences", "-3"}, 2, {"--sequences"});
  expect_refused({"eval", path("run"), "--device", "gpu0"}, 2, {"gpu0"});
  expect_refused({"eval", path("run"), "--sequence-length", "-4"}, 2, {"--sequence-length"});
  expect_refused({"eval", path("run"), "--threads", "-1"}, 2, {"--threads"});

  const std::string flipped = damaged_copy("flipped");
  {
    std::fstream file(flipped + "/model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-5, std::ios::end);
    file.put('\x5a');
  }
  expect_refused({"eval", flipped}, 1, {"model.safetensors"});
  const std::string truncated = damaged_copy("truncated");
  fs::resize_file(truncated + "/model.safetensors", fs::file_size(truncated + "/model.safetensors") - 8);
  expect_refused({"generate", truncated}, 1, {"model.safetensors"});
  const std::string headless = damaged_copy("headless");
  fs::remove(headless + "/config.json");
  expect_refused({"eval", headless}, 1, {"config.json"});
  // Without its manifest a directory counts as one of others': then the files themselves must be right.
  fs::remove(headless + "/manifest.json");
  expect_refused({"eval", headless}, 2, {"config.json"});
  fs::remove(truncated + "/manifest.json");
  expect_refused({"eval", truncated}, 1, {"model.safetensors"});
  const std::string foreign = damaged_copy("foreign");
  fs::remove(foreign + "/manifest.json");
  put(foreign + "/config.json", R"({"model_type": "llama", "vocab_size": 257})");
  expect_refused({"eval", foreign}, 2, {"config.json", "llama"});
  put(foreign + "/config.json", "{");
  expect_refused({"eval", foreign}, 2, {"config.json"});
  expect_refused({"export", path("nowhere"), "--output", path("x")}, 2, {"nowhere"});
  expect_refused({"export", checkpoint(), "--output", path("tokens")}, 2, {"tokens"});
  expect_refused({"export", checkpoint(), "--output", path("x"), "--dtype", "int4"}, 2, {"int4"});
  expect_refused({"import", path("tokens"), "--output", path("x")}, 2, {"config.json"});
}

TEST_F(Command, BadPromptsAndSampling) {
  expect_refused({"generate", checkpoint(), "--temperature", "-1"}, 2, {"--temperature", "-1"});
  expect_refused({"generate", checkpoint(), "--temperature", "nan"}, 2, {"--temperature"});
  expect_refused({"generate", checkpoint(), "--top-p", "0"}, 2, {"--top-p"});
  expect_refused({"generate", checkpoint(), "--top-p", "1.5"}, 2, {"--top-p"});
  expect_refused({"generate", checkpoint(), "--top-k", "-2"}, 2, {"--top-k"});
  expect_refused({"generate", checkpoint(), "--tokens", "0"}, 2, {"--tokens"});
  expect_refused({"generate", checkpoint(), "--tokens", "many"}, 2, {"--tokens"});
  for (const char* tokens : {"32", "1000", "9223372036854775807"})
    expect_refused({"generate", checkpoint(), "--prompt", "x", "--tokens", tokens}, 2,
                   {"32 positions", "max_position_embeddings", "fewer --tokens", "shorter prompt"});
  expect_refused({"generate", checkpoint(), "--tokenizer", path("text.txt")}, 2, {"text.txt"});
  expect_refused({"generate", checkpoint(), "--prompt", std::string(5000, 'a'), "--tokens", "3"}, 2,
                 {"max_position_embeddings"});
  // Odd prompts that are fine: empty, not UTF-8, from standard input.
  for (const char* prompt : {"", "\xff\xfe\x80", "-"})
    EXPECT_EQ(polartrain({"generate", checkpoint(), "--prompt", prompt, "--tokens", "3"}, "She").code, 0);
}

TEST_F(Command, BadDataAndReports) {
  expect_refused({"data", "prepare", path("nothing.txt"), "--output", path("d"), "--tokenizer", "bytes"}, 2,
                 {"nothing.txt"});
  expect_refused(
      {"data", "prepare", path("text.txt"), "--output", path("d"), "--tokenizer", path("no.model")}, 2,
      {"no.model"});
  expect_refused({"data", "prepare", path("text.txt"), "--output", path("d"), "--tokenizer", "bytes",
                  "--validation-fraction", "1.5"},
                 2, {"validation fraction"});
  expect_refused({"data", "prepare", path("text.txt"), "--output", path("d"), "--tokenizer", "bytes",
                  "--threads", "5000"},
                 2, {"--threads", "4096"});
  put(path("bad.jsonl"), "{\"text\": \"fine\"}\n{\"text\": 3}\n");
  expect_refused({"data", "prepare", path("bad.jsonl"), "--output", path("d"), "--tokenizer", "bytes"}, 2,
                 {"bad.jsonl:2"});
  expect_refused({"data", "verify", path("text.txt")}, 1, {"text.txt"});
  expect_refused({"data", "inspect", path("nowhere.bin")}, 2, {"nowhere.bin"});
  expect_refused({"tokenizer", "train", path("nothing"), "--output", path("t.model")}, 2, {"nothing"});
  expect_refused({"tokenizer", "encode", path("no.model"), "text"}, 2, {"no.model"});
  expect_refused({"tokenizer", "decode", "bytes", "12 x"}, 2, {"x"});
  expect_refused({"report", path("tokens")}, 2, {"metrics.jsonl"});
  expect_refused({"plan", path("text.txt")}, 2, {"text.txt"});
  expect_refused({"bench", "step", path("none.yaml")}, 2, {"none.yaml"});
}

}  // namespace
}  // namespace polar::test

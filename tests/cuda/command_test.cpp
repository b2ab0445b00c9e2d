// The command on the emulated device: a run in bf16 from text to checkpoint, continued, evaluated,
// generating.
#include <map>
#include <nlohmann/json.hpp>

#include "process.h"
#include "train/fixture.h"

namespace polar::test {
namespace {

class EmulatedCommand : public TinyRun {
 protected:
  Finished command(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), POLAR_EMULATED_BINARY);
    return run_process(arguments);
  }
  Finished train_run(const std::string& run, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"train",
                                          path("config.yaml").string(),
                                          "run.dir=" + path(run).string(),
                                          "run.device=cuda",
                                          "precision.compute=bf16",
                                          "model.num_attention_heads=2",
                                          "model.num_key_value_heads=1",
                                          "model.head_dim=32",
                                          "batch.global_tokens=128",
                                          "batch.micro_sequences=2",
                                          "train.max_steps=4",
                                          "evaluation.every_steps=2",
                                          "evaluation.sequences=2",
                                          "checkpoint.every_steps=2",
                                          "guard.enabled=false"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return command(arguments);
  }
  std::vector<double> losses_of(const std::string& run) {
    std::vector<double> losses;
    std::ifstream file(path(run) / "metrics.jsonl");
    for (std::string line; std::getline(file, line);) {
      const nlohmann::json metrics = nlohmann::json::parse(line);
      if (metrics.contains("loss")) losses.push_back(metrics["loss"]);
    }
    return losses;
  }
  nlohmann::json evaluate(const std::string& device) {
    const Finished done = command({"eval", path("whole").string(), "--device", device, "--json"});
    EXPECT_EQ(done.code, 0) << done.output;
    return nlohmann::json::parse(done.output.substr(done.output.find('{')));
  }
};

TEST_F(EmulatedCommand, TrainsInBf16ContinuesExactlyEvaluatesAndGenerates) {
  const Finished whole = train_run("whole");
  ASSERT_EQ(whole.code, 0) << whole.output;
  EXPECT_NE(whole.output.find("emulated"), std::string::npos) << whole.output;
  // What MFU is a share of: the emulated card is not in any data sheet, but it has properties.
  EXPECT_NE(whole.output.find("TFLOP/s bf16 ("), std::string::npos) << whole.output;
  EXPECT_NE(whole.output.find("FLOPs a clock); MFU"), std::string::npos) << whole.output;
  EXPECT_EQ(read_metrics(path("whole") / "metrics.jsonl").column("mfu").size(), 4u);
  for (const double mfu : read_metrics(path("whole") / "metrics.jsonl").column("mfu")) EXPECT_GT(mfu, 0.0);

  // As if it had been cut off between the two checkpoints.
  std::filesystem::copy(path("whole"), path("cut"), std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(checkpoint_dir(path("cut"), 4));
  const Finished resumed = train_run("cut");
  ASSERT_EQ(resumed.code, 0) << resumed.output;
  EXPECT_NE(resumed.output.find("continuing from"), std::string::npos) << resumed.output;
  EXPECT_EQ(state_of("cut", 4), state_of("whole", 4));

  const double on_cpu = evaluate("cpu").at("loss"), on_cuda = evaluate("cuda").at("loss");
  EXPECT_NEAR(on_cuda / on_cpu, 1.0, 1e-4);
  const Finished text =
      command({"generate", path("whole").string(), "--device", "cuda", "--prompt", "It is", "--tokens", "4"});
  EXPECT_EQ(text.code, 0) << text.output;
  EXPECT_NE(text.output.find("It is"), std::string::npos) << text.output;
}

// The loop queues ahead of the device: with streams that do nothing before something waits for them, every
// order that it forgot to ask for would show.
TEST_F(EmulatedCommand, TheHostMayRunAhead) {
  const auto train_with = [&](const std::string& lazy, const std::string& run) {
    const Finished done = run_process(
        {"/usr/bin/env", "EMULATOR_LAZY=" + lazy, POLAR_EMULATED_BINARY, "train",
         path("config.yaml").string(), "run.dir=" + path(run).string(), "run.device=cuda",
         "batch.global_tokens=128", "batch.micro_sequences=2", "model.num_attention_heads=2",
         "model.num_key_value_heads=1", "model.head_dim=32", "train.max_steps=6", "log.every_steps=1"});
    EXPECT_EQ(done.code, 0) << done.output;
  };
  train_with("0", "eager");
  train_with("1", "lazy");
  EXPECT_EQ(state_of("lazy", 6), state_of("eager", 6));
}

// What a step queues depends on how many were applied before it, and the host does not always know: it must
// wait where it matters, and a run that goes on must count on.
TEST_F(EmulatedCommand, SoapContinuesExactly) {
  const std::vector<std::string> soap{"optimizer.groups.0.type=soap",
                                      "optimizer.groups.0.lr=1e-3",
                                      "optimizer.groups.0.precondition_frequency=3",
                                      "train.max_steps=8",
                                      "checkpoint.every_steps=4",
                                      "evaluation.every_steps=0"};
  const Finished whole = train_run("whole", soap);
  ASSERT_EQ(whole.code, 0) << whole.output;
  std::filesystem::copy(path("whole"), path("cut"), std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(checkpoint_dir(path("cut"), 8));
  const Finished resumed = train_run("cut", soap);
  ASSERT_EQ(resumed.code, 0) << resumed.output;
  EXPECT_NE(resumed.output.find("continuing from"), std::string::npos) << resumed.output;
  EXPECT_EQ(state_of("cut", 8), state_of("whole", 8));
}

// The factors of the exact oracles and of many Newton-Schulz iterations are the same: so are the losses.
TEST_F(EmulatedCommand, TrainsWithExactOracles) {
  const std::string oracle = "optimizer.groups.0.oracle.";
  const Finished iterated = train_run("iterated", {oracle + "kind=polar_express", oracle + "steps=12"});
  ASSERT_EQ(iterated.code, 0) << iterated.output;
  const std::vector<double> want = losses_of("iterated");
  for (const std::string kind : {"svd", "qdwh", "zolo_pd"}) {
    SCOPED_TRACE(kind);
    std::vector<std::string> keys{oracle + "kind=" + kind};
    if (kind == "qdwh") keys.push_back(oracle + "steps=0");  // as many as it needs
    const Finished exact = train_run(kind, keys);
    ASSERT_EQ(exact.code, 0) << exact.output;
    // What a run ends with, in bf16 too.
    for (const char* file : {"sample.txt", "report.html"})
      EXPECT_TRUE(std::filesystem::exists(path(kind) / file)) << exact.output;
    const std::vector<double> got = losses_of(kind);
    ASSERT_EQ(got.size(), 4u);
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(got[i], want[i], 0.01) << "step " << i + 1;
    EXPECT_NE(got, want);
  }
}

// Needs no device: what fits into a card that is not here.
TEST_F(EmulatedCommand, ThePlanSaysWhichMicroBatchFits) {
  const std::string preset = std::string(POLAR_SOURCE_DIR) + "/configs/models/qwen2.5-0.5b.yaml";
  const auto plan = [&](const std::string& memory) {
    return command({"plan", preset, "--device", "cuda", "--memory", memory});
  };
  const Finished large = plan("80GB"), small = plan("2GB"), wrong = plan("8zB");
  EXPECT_EQ(large.code, 0) << large.output;
  const size_t table = large.output.find("largest micro-batch");
  ASSERT_NE(table, std::string::npos) << large.output;
  for (const char* level : {"none ", "mlp ", "layer "})
    EXPECT_NE(large.output.find(level, table), std::string::npos) << large.output;
  EXPECT_EQ(large.output.find("none fits"), std::string::npos) << large.output;
  EXPECT_NE(small.output.find("none fits"), std::string::npos) << small.output;
  EXPECT_EQ(wrong.code, 2);
  EXPECT_NE(wrong.output.find("found '8zB'"), std::string::npos) << wrong.output;
}

TEST_F(EmulatedCommand, TheVersionNamesTheDevice) {
  const Finished version = command({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_NE(version.output.find("emulated"), std::string::npos) << version.output;
}

// Every row of a benchmark has figures that mean something.
TEST_F(EmulatedCommand, BenchmarksGiveRatesOfEveryOperation) {
  const auto rows_of = [&](const std::string& name, const std::string& work) {
    const Finished done = command({"bench", name, path("config.yaml").string(), "model.num_attention_heads=2",
                                   "model.num_key_value_heads=1", "model.head_dim=32",
                                   "model.num_hidden_layers=1", "batch.micro_sequences=2", "--device", "cuda",
                                   "--repeats", "1", "--peak-edge", "128", "--copy-mib", "1", "--json"});
    EXPECT_EQ(done.code, 0) << done.output;
    const auto json = nlohmann::json::parse(done.output.substr(done.output.find('{')));
    EXPECT_EQ(json.at("precision"), "bf16");
    EXPECT_NE(json.at("device").get<std::string>().find("emulated"), std::string::npos);
    std::map<std::string, nlohmann::json> rows;
    for (const auto& row : json.at("rows")) {
      rows[row.at("name").get<std::string>()] = row;
      for (const std::string& key : {std::string("ms"), work, work + "_per_s", std::string("share")})
        EXPECT_GT(row.at(key).get<double>(), 0.0) << key << " of " << row.dump();
      EXPECT_NEAR(row.at(work).get<double>() / row.at("ms").get<double>() * 1e3 /
                      row.at(work + "_per_s").get<double>(),
                  1.0, 1e-9);
    }
    return rows;
  };
  const auto kernels = rows_of("kernels", "bytes");
  for (const char* name : {"rms_norm_forward",
                           "rms_norm_forward, residual",
                           "rms_norm_backward",
                           "qk_norm_rope_forward, queries",
                           "qk_norm_rope_backward, queries",
                           "swiglu_forward",
                           "swiglu_backward",
                           "embedding_forward",
                           "embedding_backward",
                           "add_bias",
                           "bias_backward",
                           "adamw",
                           "momentum_update",
                           "matrix_update",
                           "fill",
                           "copy",
                           "cast f32 to bf16",
                           "cast bf16 to f32",
                           "scale",
                           "axpby",
                           "sum_squares",
                           "polar_normalize",
                           "polar_inner"})
    EXPECT_EQ(kernels.count(name), 1u) << name;
  EXPECT_EQ(kernels.at("swiglu_backward").at("bytes"), 5 * 2 * 64 * 64);  // bf16, 64 rows, width 64
  EXPECT_EQ(kernels.at("adamw").at("bytes"), 30 * 3 * 32 * 64);

  EXPECT_EQ(rows_of("gemm", "flops").size(), 5u * 3u + 1u);  // the loss as a whole
  const auto attention = rows_of("attention", "flops");
  const double pairs = 2 * 2 * 32 * 33 / 2;  // sequences, heads, queries and the keys that they see
  EXPECT_EQ(attention.at("forward 2 x 32, heads 2/1 x 32").at("flops"), 4 * 32 * pairs);
  EXPECT_EQ(attention.at("backward 2 x 32, heads 2/1 x 32").at("flops"), 14 * 32 * pairs);

  const auto polar = rows_of("polar", "flops");
  const auto& all = polar.at("all, newton_schulz jordan 5");
  EXPECT_EQ(all.at("matrices"), 7);
  EXPECT_GT(all.at("launches").get<int64_t>(), 2 * 7);  // a momentum and an update of each, at least
  double flops = 0.0;
  for (const auto& [name, row] : polar) flops += row.at("flops").get<double>();
  EXPECT_DOUBLE_EQ(flops, 2 * all.at("flops").get<double>());
}

}  // namespace
}  // namespace polar::test

// Directories in Hugging Face's form: from a model of ours and back, whole, sharded, in bfloat16, and
// refused.
#include "eval/exchange.h"

#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "errors.h"
#include "model/hf_config.h"
#include "model/registry.h"
#include "temporary.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelConfig tiny(Architecture architecture, bool tied) {
  ModelConfig model;
  model.architecture = architecture;
  model.vocab_size = 20;
  model.hidden_size = 8;
  model.num_hidden_layers = 2;
  model.num_attention_heads = 2;
  model.num_key_value_heads = 1;
  model.head_dim = 6;
  model.intermediate_size = 10;
  model.max_position_embeddings = 32;
  model.tie_word_embeddings = tied;
  return model;
}

struct Weights {
  explicit Weights(const ModelConfig& model)
      : registry(make_registry(model)),
        memory(static_cast<size_t>(registry.flat_count())),
        flat{memory.data(), DType::f32, {registry.flat_count()}} {
    for (size_t i = 0; i < memory.size(); ++i) memory[i] = std::sin(static_cast<float>(i));
  }
  ParameterRegistry registry;
  std::vector<float> memory;
  Tensor flat;
};

// A Hugging Face directory: config.json, weights and nothing of ours.
void write_hf(const fs::path& dir, const ModelConfig& model, const std::vector<NamedTensor>& tensors) {
  fs::create_directories(dir);
  put(dir / "config.json", to_hf_json(model, {1, {}, {2}}, "float32").dump());
  write_safetensors(dir / "model.safetensors", tensors);
}

void expect_weights(const fs::path& dir, const Weights& expected, float tolerance) {
  const TensorSource source(dir);
  ASSERT_EQ(source.names().size(), expected.registry.parameters().size());
  for (const NamedTensor& t : named_parameters(expected.registry, expected.flat)) {
    std::vector<float> found(static_cast<size_t>(t.tensor.count()));
    source.read(t.name, {found.data(), DType::f32, t.tensor.shape});
    for (size_t i = 0; i < found.size(); ++i) {
      const float value = t.tensor.as<float>()[i];
      ASSERT_NEAR(found[i], value, tolerance * std::abs(value)) << t.name;
    }
  }
}

std::string refusal_of(const Conversion& conversion) {
  return message_of([&] { convert_model(conversion); });
}

TEST(Exchange, ConvertsBothArchitecturesTiedAndUntied) {
  for (const Architecture architecture : {Architecture::qwen2, Architecture::qwen3})
    for (const bool tied : {true, false}) {
      TemporaryDirectory dir;
      const ModelConfig model = tiny(architecture, tied);
      const Weights weights(model);
      write_hf(dir / "hf", model, named_parameters(weights.registry, weights.flat));
      const Converted done = convert_model({dir / "hf", dir / "ours", "float32"});
      EXPECT_EQ(done.parameters, weights.registry.parameter_count());
      EXPECT_TRUE(verify(dir / "ours").empty());
      expect_weights(dir / "ours", weights, 0.0f);
      EXPECT_EQ(read_hf_config(dir / "ours/config.json").model, model);
      convert_model({dir / "ours", dir / "half", "bfloat16"});
      expect_weights(dir / "half", weights, 0x1p-8f);
      EXPECT_EQ(read_hf_config(dir / "half/config.json").dtype, "bfloat16");
      EXPECT_EQ(TensorSource(dir / "half").info("model.norm.weight").type, StoredType::bf16);
      convert_model({dir / "half", dir / "back", "float32"});
      expect_weights(dir / "back", weights, 0x1p-8f);
    }
}

TEST(Exchange, ReadsShards) {
  TemporaryDirectory dir;
  const ModelConfig model = tiny(Architecture::qwen3, false);
  const Weights weights(model);
  fs::create_directories(dir / "hf");
  put(dir / "hf/config.json", to_hf_json(model, {}, "float32").dump());
  json map;
  int shard = 0;
  for (const NamedTensor& t : named_parameters(weights.registry, weights.flat)) {
    const std::string file = fmt::format("model-{:05}.safetensors", ++shard);
    write_safetensors(dir / "hf" / file, std::vector<NamedTensor>{t});
    map[t.name] = file;
  }
  put(dir / "hf/model.safetensors.index.json", json{{"weight_map", map}}.dump());
  convert_model({dir / "hf", dir / "ours", "float32"});
  expect_weights(dir / "ours", weights, 0.0f);
}

TEST(Exchange, ExportsARunsLatestCheckpointWithoutTheOptimizer) {
  TemporaryDirectory dir;
  const ModelConfig model = tiny(Architecture::qwen3, true);
  const Weights weights(model);
  CheckpointContent content;
  content.model = named_parameters(weights.registry, weights.flat);
  content.optimizer = named_parameters(weights.registry, weights.flat, "adamw.m:");
  content.state = {{"step", 7}};
  content.files = hf_files(model, load_tokenizer("bytes").get(), 32);
  save_checkpoint(dir / "run", 7, content);
  const Converted done = convert_model({dir / "run", dir / "hf", "float32"});
  EXPECT_EQ(done.source, checkpoint_dir(dir / "run", 7));
  EXPECT_FALSE(fs::exists(dir / "hf/optimizer.safetensors"));
  EXPECT_FALSE(fs::exists(dir / "hf/state.json"));
  EXPECT_THAT(done.files, ElementsAre("config.json", "generation_config.json"));
  EXPECT_EQ(read_hf_config(dir / "hf/config.json").tokens.eos, (std::vector<int64_t>{256}));
}

TEST(Exchange, TheSequenceLengthStandsInForTheLimitOfPositions) {
  ModelConfig model = tiny(Architecture::qwen3, true);
  model.max_position_embeddings = 0;
  const std::vector<SmallFile> files = hf_files(model, nullptr, 48);
  EXPECT_EQ(json::parse(files[0].content)["max_position_embeddings"], 48);
}

TEST(Exchange, ATiedHeadMayBeStoredTwice) {
  TemporaryDirectory dir;
  const ModelConfig model = tiny(Architecture::qwen2, true);
  Weights weights(model);
  std::vector<NamedTensor> tensors = named_parameters(weights.registry, weights.flat);
  tensors.push_back({"lm_head.weight", tensors.front().tensor});
  ASSERT_EQ(tensors.front().name, "model.embed_tokens.weight");
  write_hf(dir / "hf", model, tensors);
  convert_model({dir / "hf", dir / "ours", "float32"});
  expect_weights(dir / "ours", weights, 0.0f);
  std::vector<float> other(160, 1.0f);
  tensors.back().tensor.data = other.data();
  write_hf(dir / "hf", model, tensors);
  EXPECT_THAT(refusal_of({dir / "hf", dir / "again", "float32"}), HasSubstr("lm_head.weight differs from"));
}

TEST(Exchange, WarnsThatTheSoftCapIsIgnoredElsewhere) {
  TemporaryDirectory dir;
  ModelConfig model = tiny(Architecture::qwen3, true);
  model.logit_softcap = 30.0;
  const Weights weights(model);
  write_hf(dir / "hf", model, named_parameters(weights.registry, weights.flat));
  EXPECT_THAT(convert_model({dir / "hf", dir / "ours", "float32"}).warnings,
              ::testing::Contains(HasSubstr("ignores logit_softcap (30)")));
}

TEST(Exchange, RefusesWhatDoesNotFit) {
  TemporaryDirectory dir;
  const ModelConfig model = tiny(Architecture::qwen3, true);
  const Weights weights(model);
  const std::vector<NamedTensor> tensors = named_parameters(weights.registry, weights.flat);
  EXPECT_THAT(refusal_of({dir / "none", dir / "out", "float32"}), HasSubstr("no such directory"));
  write_hf(dir / "hf", tiny(Architecture::qwen2, true), tensors);
  EXPECT_THAT(refusal_of({dir / "hf", dir / "out", "float32"}),
              AllOf(HasSubstr("missing: model.layers.0.self_attn.q_proj.bias [12]"),
                    HasSubstr("unexpected: model.layers.0.self_attn.q_norm.weight [6]")));
  ModelConfig wide = model;
  wide.intermediate_size = 11;
  write_hf(dir / "hf", wide, tensors);
  EXPECT_THAT(refusal_of({dir / "hf", dir / "out", "float32"}),
              HasSubstr("wrong shape: model.layers.0.mlp.gate_proj.weight is [10, 8], expected [11, 8]"));
  ModelConfig deep = model;
  deep.num_hidden_layers = 60'000;
  json object = to_hf_json(model, {}, "float32");
  object["num_hidden_layers"] = deep.num_hidden_layers;
  object.erase("layer_types");
  put(dir / "hf/config.json", object.dump());
  EXPECT_THAT(refusal_of({dir / "hf", dir / "out", "float32"}), HasSubstr("60000 layers"));
  EXPECT_FALSE(fs::exists(dir / "out"));
}

TEST(Exchange, NeverWritesOverADirectory) {
  TemporaryDirectory dir;
  const ModelConfig model = tiny(Architecture::qwen3, true);
  const Weights weights(model);
  write_hf(dir / "hf", model, named_parameters(weights.registry, weights.flat));
  EXPECT_THAT(refusal_of({dir / "hf", dir / "hf", "float32"}), HasSubstr("exists already"));
  EXPECT_THAT(refusal_of({dir / "hf", dir / "hf/config.json", "float32"}), HasSubstr("exists already"));
  fs::create_directories(dir / "empty");
  convert_model({dir / "hf", dir / "empty", "float32"});
  EXPECT_TRUE(verify(dir / "empty").empty());
}

}  // namespace
}  // namespace polar::test

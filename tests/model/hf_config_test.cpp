// config.json: what transformers' files mean, and what is refused.
#include "model/hf_config.h"

#include <gmock/gmock.h>

#include "errors.h"

namespace polar::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The released Qwen2.5-0.5B's file (transformers 4 keys).
json qwen25() {
  return json::parse(R"({
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
    "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 24,
    "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true,
    "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": true,
    "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936})");
}

// A small Qwen3 as transformers 5 saves it.
json qwen3() {
  return json::parse(R"({
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "bos_token_id": null, "dtype": "float32",
    "eos_token_id": [5, 7], "head_dim": 16, "hidden_act": "silu", "hidden_size": 48, "intermediate_size": 96,
    "layer_types": ["full_attention", "full_attention"], "max_position_embeddings": 512,
    "max_window_layers": 28, "model_type": "qwen3", "num_attention_heads": 4, "num_hidden_layers": 2,
    "num_key_value_heads": 2, "pad_token_id": null, "rms_norm_eps": 1e-06,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "sliding_window": null,
    "tie_word_embeddings": false, "use_sliding_window": false, "vocab_size": 100})");
}

TEST(HfConfig, ReadsTransformers4) {
  const HfConfig hf = from_hf_json(qwen25(), "config.json");
  ModelConfig expected;
  expected.architecture = Architecture::qwen2;
  expected.vocab_size = 151936;
  expected.hidden_size = 896;
  expected.num_hidden_layers = 24;
  expected.num_attention_heads = 14;
  expected.num_key_value_heads = 2;
  expected.intermediate_size = 4864;
  expected.max_position_embeddings = 32768;
  expected.tie_word_embeddings = true;
  EXPECT_EQ(hf.model, expected);
  EXPECT_EQ(hf.tokens, (TokenIds{151643, {}, {151643}}));
  EXPECT_EQ(hf.dtype, "bfloat16");
}

TEST(HfConfig, ReadsTransformers5) {
  const HfConfig hf = from_hf_json(qwen3(), "config.json");
  EXPECT_EQ(hf.model.architecture, Architecture::qwen3);
  EXPECT_EQ(hf.model.head_dim, 16);
  EXPECT_EQ(hf.model.rope_theta, 10000.0);
  EXPECT_EQ(hf.model.sliding_window, 0);
  EXPECT_FALSE(hf.model.tie_word_embeddings);
  EXPECT_EQ(hf.tokens, (TokenIds{{}, {}, {5, 7}}));
}

TEST(HfConfig, AbsentKeysHaveTransformersDefaults) {
  json object = qwen3();
  for (const char* key : {"head_dim", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings",
                          "hidden_act", "use_sliding_window", "layer_types", "attention_bias", "dtype"})
    object.erase(key);
  const HfConfig hf = from_hf_json(object, "config.json");
  EXPECT_EQ(hf.model.head_dim, 128);  // Qwen3Config's default, not width / heads
  EXPECT_EQ(hf.model.rms_norm_eps, 1e-6);
  EXPECT_EQ(hf.model.max_position_embeddings, 32768);
  EXPECT_EQ(hf.dtype, "float32");
}

TEST(HfConfig, RoundTrip) {
  for (const Architecture architecture : {Architecture::qwen2, Architecture::qwen3})
    for (const int64_t window : {0, 32}) {
      ModelConfig model = from_hf_json(qwen3(), "config.json").model;
      model.architecture = architecture;
      model.sliding_window = window;
      model.logit_softcap = 30.0;
      model.z_loss = 1e-4;
      model.scale_residual_init = true;
      model.rms_norm_eps = 1e-5;
      const TokenIds tokens{1, 0, {2}};
      const json object = to_hf_json(model, tokens, "bfloat16");
      const HfConfig back = from_hf_json(json::parse(object.dump()), "config.json");
      EXPECT_EQ(back.model, model);
      EXPECT_EQ(back.tokens, tokens);
      EXPECT_EQ(back.dtype, "bfloat16");
      EXPECT_EQ(object["torch_dtype"], "bfloat16");
      EXPECT_EQ(object["rope_parameters"]["rope_theta"], object["rope_theta"]);
    }
}

TEST(HfConfig, GenerationConfigHoldsTheTokenIds) {
  EXPECT_EQ(to_hf_generation_json({1, {}, {2}}).dump(), R"({"bos_token_id":1,"eos_token_id":2})");
  EXPECT_EQ(to_hf_generation_json({{}, 0, {2, 3}}).dump(), R"({"eos_token_id":[2,3],"pad_token_id":0})");
  EXPECT_EQ(to_hf_generation_json({}).dump(), "{}");
}

TEST(HfConfig, WindowsAreThoseOfTransformers) {
  json object = qwen25();  // no layer_types: layer i has the window if i >= max_window_layers
  object["use_sliding_window"] = true;
  EXPECT_EQ(from_hf_json(object, "f").model.sliding_window, 0);  // 24 of 24 are full
  object["max_window_layers"] = 0;
  EXPECT_EQ(from_hf_json(object, "f").model.sliding_window, 32768);
  object["max_window_layers"] = 12;
  EXPECT_THROW(from_hf_json(object, "f"), Error);
  object["layer_types"] = std::vector<std::string>(24, "sliding_attention");  // wins over max_window_layers
  EXPECT_EQ(from_hf_json(object, "f").model.sliding_window, 32768);
}

struct Bad {
  const char* name;
  const char* patch;  // JSON merge patch: null removes a key
  const char* message;
};
void PrintTo(const Bad& bad, std::ostream* out) {
  *out << bad.name;
}
class BadHfConfig : public ::testing::TestWithParam<Bad> {};

TEST_P(BadHfConfig, IsRefusedWithFileAndKey) {
  json object = qwen3();
  object.merge_patch(json::parse(GetParam().patch));
  const Error error = error_of([&] { from_hf_json(object, "dir/config.json"); });
  EXPECT_EQ(error.code(), ExitCode::bad_usage);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("dir/config.json: "), HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    Cases, BadHfConfig,
    ::testing::Values(
        Bad{"no_type", R"({"model_type": null})", "key model_type is missing"},
        Bad{"llama", R"({"model_type": "llama"})", "model_type is \"llama\", supported are qwen2"},
        Bad{"moe", R"({"model_type": "qwen3_moe"})", "qwen3_moe"},
        Bad{"no_size", R"({"hidden_size": null})", "key hidden_size is missing"},
        Bad{"no_layers", R"({"num_hidden_layers": null})", "key num_hidden_layers is missing"},
        Bad{"zero", R"({"vocab_size": 0})", "vocab_size: found 0, expected 1 to"},
        Bad{"negative", R"({"num_hidden_layers": -2})", "num_hidden_layers: found -2"},
        Bad{"fraction", R"({"hidden_size": 48.5})", "hidden_size is 48.5, expected an integer"},
        Bad{"huge", R"({"hidden_size": 18446744073709551615})", "expected an integer"},
        Bad{"too_many_layers", R"({"num_hidden_layers": 1000000000})", "num_hidden_layers: found 1000000000"},
        Bad{"too_wide", R"({"hidden_size": 9223372036854775807})", "hidden_size: found 9223372036854775807"},
        Bad{"too_many_heads", R"({"num_attention_heads": 4294967296})", "num_attention_heads: found"},
        Bad{"huge_vocabulary", R"({"vocab_size": 4611686018427387904})", "vocab_size: found"},
        Bad{"huge_mlp", R"({"intermediate_size": 4611686018427387904})", "intermediate_size: found"},
        Bad{"wide_heads", R"({"head_dim": 258})", "head_dim: found 258"},
        Bad{"negative_head_dim", R"({"head_dim": -16})", "head_dim: found -16"},
        Bad{"huge_positions", R"({"max_position_embeddings": 4611686018427387904})",
            "max_position_embeddings: found"},
        Bad{"huge_window", R"({"use_sliding_window": true, "sliding_window": 4611686018427387904,
             "layer_types": ["sliding_attention", "sliding_attention"]})",
            "sliding_window: found"},
        Bad{"huge_product", R"({"num_hidden_layers": 65536, "hidden_size": 1048576,
             "intermediate_size": 4194304, "num_attention_heads": 65536, "head_dim": 256})",
            "num_hidden_layers: 65536 layers of these sizes"},
        Bad{"heads_do_not_divide", R"({"num_key_value_heads": 3})", "num_attention_heads: found 4"},
        Bad{"text", R"({"hidden_size": "48"})", "hidden_size is \"48\", expected an integer"},
        Bad{"number_as_bool", R"({"tie_word_embeddings": 1})", "expected true or false"},
        Bad{"activation", R"({"hidden_act": "gelu"})", "hidden_act is \"gelu\", supported is only \"silu\""},
        Bad{"bias", R"({"attention_bias": true})", "attention_bias is true, supported is only false"},
        Bad{"qwen2_without_bias", R"({"model_type": "qwen2"})", "attention_bias is false"},
        Bad{"mlp_bias", R"({"mlp_bias": true})", "mlp_bias"},
        Bad{"no_theta", R"({"rope_parameters": null})", "key rope_theta is missing"},
        Bad{"yarn", R"({"rope_parameters": {"rope_type": "yarn"}})", "rope_type is \"yarn\""},
        Bad{"old_scaling",
            R"({"rope_parameters": null, "rope_theta": 1e4, "rope_scaling": {"type": "linear"}})",
            "rope_scaling: type is \"linear\""},
        Bad{"partial", R"({"rope_parameters": {"partial_rotary_factor": 0.5}})", "partial_rotary_factor"},
        Bad{"two_thetas", R"({"rope_theta": 5.0})", "they must agree"},
        Bad{"rope_text", R"({"rope_parameters": "default"})", "expected a JSON object"},
        Bad{"mixed_windows", R"({"use_sliding_window": true, "sliding_window": 8,
             "layer_types": ["full_attention", "sliding_attention"]})",
            "1 of 2 layers have a sliding window"},
        Bad{"too_few_layer_types", R"({"use_sliding_window": true, "sliding_window": 8, "layer_types": []})",
            "layer_types must list 2 layers"},
        Bad{"eos_text", R"({"eos_token_id": ["</s>"]})", "eos_token_id holds"},
        Bad{"own_object", R"({"polartrain": 3})", "polartrain: expected a JSON object"},
        Bad{"own_type", R"({"polartrain": {"logit_softcap": "30"}})", "polartrain: logit_softcap"}),
    [](const auto& each) { return std::string(each.param.name); });

TEST(HfConfig, NotAnObjectOrNotThere) {
  EXPECT_THROW(from_hf_json(json::array(), "f"), Error);
  EXPECT_THROW(read_hf_config("nowhere/config.json"), Error);
}

TEST(HfConfig, WritingNeedsAPositionLimit) {
  ModelConfig model = from_hf_json(qwen3(), "f").model;
  model.max_position_embeddings = 0;
  EXPECT_THROW(to_hf_json(model, {}, "float32"), Error);
}

}  // namespace
}  // namespace polar::test

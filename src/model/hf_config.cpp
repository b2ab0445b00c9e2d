#include "model/hf_config.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "model/registry.h"

namespace polar {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// One config.json under the name that errors call it by. A key with the value null counts as absent.
class Keys {
 public:
  Keys(const json& object, std::string_view file) : object_(object), file_(file) {
    if (!object.is_object()) fail_usage("{}: expected a JSON object, found {}", file, object.type_name());
  }

  const json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  template <class T>
  T get(const char* key, T otherwise) const {
    const json* value = find(key);
    return value == nullptr ? otherwise : convert<T>(key, *value);
  }
  template <class T>
  T need(const char* key) const {
    const json* value = find(key);
    if (value == nullptr) fail_usage("{}: key {} is missing", file_, key);
    return convert<T>(key, *value);
  }
  template <class T>
  void only(const char* key, const T& supported) const {
    const T value = get<T>(key, supported);
    if (value != supported)
      fail_usage("{}: {} is {}, supported is only {}", file_, key, json(value).dump(),
                 json(supported).dump());
  }
  std::string_view file() const { return file_; }

 private:
  template <class T>
  T convert(const char* key, const json& value) const {
    bool fits = false;
    const char* expected = "a string";
    if constexpr (std::is_same_v<T, bool>) {
      fits = value.is_boolean();
      expected = "true or false";
    } else if constexpr (std::is_same_v<T, int64_t>) {
      fits = value.is_number_integer() && !(value.is_number_unsigned() && value.get<uint64_t>() >> 63);
      expected = "an integer";
    } else if constexpr (std::is_same_v<T, double>) {
      fits = value.is_number() && std::isfinite(value.get<double>());
      expected = "a number";
    } else {
      fits = value.is_string();
    }
    if (!fits) fail_usage("{}: {} is {}, expected {}", file_, key, value.dump(), expected);
    return value.get<T>();
  }

  const json& object_;
  std::string_view file_;
};

Architecture read_architecture(const Keys& keys) {
  const auto type = keys.need<std::string>("model_type");
  if (type == "qwen2") return Architecture::qwen2;
  if (type == "qwen3") return Architecture::qwen3;
  fail_usage("{}: model_type is \"{}\", supported are qwen2 (also Qwen2.5) and qwen3", keys.file(), type);
}

// transformers 5 writes rope_parameters, transformers 4 rope_theta and rope_scaling.
double read_rope_theta(const Keys& keys) {
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    const json* object = keys.find(name);
    if (object == nullptr) continue;
    const std::string where = fmt::format("{}: {}", keys.file(), name);
    const Keys rope(*object, where);
    rope.only<std::string>("rope_type", "default");
    rope.only<std::string>("type", "default");
    rope.only<double>("partial_rotary_factor", 1.0);
    if (rope.find("rope_theta") == nullptr) continue;
    const auto theta = rope.need<double>("rope_theta");
    if (keys.get<double>("rope_theta", theta) != theta)
      fail_usage("{}: rope_theta is {} and {}.rope_theta is {}: they must agree", keys.file(),
                 keys.need<double>("rope_theta"), name, theta);
    return theta;
  }
  keys.only<double>("partial_rotary_factor", 1.0);
  return keys.need<double>("rope_theta");
}

// The window, if all layers have it; 0 if none has. transformers: layer i has one if layer_types says so, or
// without layer_types if i >= max_window_layers.
int64_t read_window(const Keys& keys, int64_t layers) {
  if (!keys.get<bool>("use_sliding_window", false)) return 0;
  const auto window = keys.get<int64_t>("sliding_window", 0);
  int64_t windowed = layers - std::clamp<int64_t>(keys.get<int64_t>("max_window_layers", 28), 0, layers);
  if (const json* types = keys.find("layer_types")) {
    if (!types->is_array() || static_cast<int64_t>(types->size()) != layers)
      fail_usage("{}: layer_types must list {} layers", keys.file(), layers);
    windowed = std::count(types->begin(), types->end(), json("sliding_attention"));
  }
  if (window <= 0 || windowed == 0) return 0;
  if (window > model_limits::kPositions)
    fail_usage("{}: sliding_window: found {}, expected at most {}", keys.file(), window,
               model_limits::kPositions);
  if (windowed != layers)
    fail_usage(
        "{}: {} of {} layers have a sliding window, supported are all or none (layer_types, "
        "max_window_layers)",
        keys.file(), windowed, layers);
  return window;
}

void check_biases(const Keys& keys, Architecture architecture) {
  keys.only<bool>("attention_bias", architecture == Architecture::qwen2);  // qwen2: on q, k, v, always
  keys.only<bool>("mlp_bias", false);
}

TokenIds read_tokens(const Keys& keys) {
  TokenIds tokens;
  const auto single = [&](const char* key) -> std::optional<int64_t> {
    if (keys.find(key) == nullptr) return std::nullopt;
    return keys.need<int64_t>(key);
  };
  tokens.bos = single("bos_token_id");
  tokens.pad = single("pad_token_id");
  const json* eos = keys.find("eos_token_id");
  if (eos != nullptr && eos->is_array()) {
    for (const json& id : *eos) {
      if (!id.is_number_unsigned())
        fail_usage("{}: eos_token_id holds {}, expected token ids", keys.file(), id.dump());
      tokens.eos.push_back(id.get<int64_t>());
    }
  } else if (eos != nullptr) {
    tokens.eos.push_back(keys.need<int64_t>("eos_token_id"));
  }
  return tokens;
}

void read_own_keys(const Keys& keys, ModelConfig& model) {
  const json* object = keys.find("polartrain");
  if (object == nullptr) return;
  const std::string where = fmt::format("{}: polartrain", keys.file());
  const Keys own(*object, where);
  model.logit_softcap = own.get<double>("logit_softcap", 0.0);
  model.z_loss = own.get<double>("z_loss", 0.0);
  model.scale_residual_init = own.get<bool>("scale_residual_init", false);
}

// eos as transformers writes it: one id plainly, several as a list.
void put_tokens(ordered_json& to, const TokenIds& tokens) {
  if (tokens.bos) to["bos_token_id"] = *tokens.bos;
  if (tokens.eos.size() == 1) to["eos_token_id"] = tokens.eos.front();
  if (tokens.eos.size() > 1) to["eos_token_id"] = tokens.eos;
  if (tokens.pad) to["pad_token_id"] = *tokens.pad;
}

void put_window(ordered_json& to, const ModelConfig& model) {
  const bool windowed = model.sliding_window > 0;
  to["use_sliding_window"] = windowed;
  to["sliding_window"] = windowed ? ordered_json(model.sliding_window) : ordered_json(nullptr);
  to["max_window_layers"] = windowed ? 0 : model.num_hidden_layers;
  to["layer_types"] = std::vector<std::string>(static_cast<size_t>(model.num_hidden_layers),
                                               windowed ? "sliding_attention" : "full_attention");
}

}  // namespace

ordered_json to_hf_json(const ModelConfig& model, const TokenIds& tokens, std::string_view dtype) {
  if (model.max_position_embeddings < 1)
    fail_usage("config.json needs model.max_position_embeddings (or the sequence length), found {}",
               model.max_position_embeddings);
  const bool qwen2 = model.architecture == Architecture::qwen2;
  ordered_json to;
  to["architectures"] = {qwen2 ? "Qwen2ForCausalLM" : "Qwen3ForCausalLM"};
  to["model_type"] = qwen2 ? "qwen2" : "qwen3";
  to["vocab_size"] = model.vocab_size;
  to["hidden_size"] = model.hidden_size;
  to["intermediate_size"] = model.intermediate_size;
  to["num_hidden_layers"] = model.num_hidden_layers;
  to["num_attention_heads"] = model.num_attention_heads;
  to["num_key_value_heads"] = model.num_key_value_heads;
  to["head_dim"] = head_dim(model);
  to["hidden_act"] = "silu";
  to["max_position_embeddings"] = model.max_position_embeddings;
  to["initializer_range"] = model.initializer_range;
  to["rms_norm_eps"] = model.rms_norm_eps;
  to["rope_theta"] = model.rope_theta;
  to["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", model.rope_theta}};
  to["tie_word_embeddings"] = model.tie_word_embeddings;
  to["attention_bias"] = qwen2;
  to["attention_dropout"] = 0.0;
  to["use_cache"] = true;
  put_window(to, model);
  put_tokens(to, tokens);
  to["torch_dtype"] = dtype;
  to["dtype"] = dtype;
  to["polartrain"] = {{"logit_softcap", model.logit_softcap},
                      {"z_loss", model.z_loss},
                      {"scale_residual_init", model.scale_residual_init}};
  return to;
}

ordered_json to_hf_generation_json(const TokenIds& tokens) {
  ordered_json to = ordered_json::object();
  put_tokens(to, tokens);
  return to;
}

HfConfig from_hf_json(const json& object, std::string_view file) {
  const Keys keys(object, file);
  HfConfig hf;
  ModelConfig& model = hf.model;
  model.architecture = read_architecture(keys);
  model.vocab_size = keys.need<int64_t>("vocab_size");
  model.hidden_size = keys.need<int64_t>("hidden_size");
  model.intermediate_size = keys.need<int64_t>("intermediate_size");
  model.num_hidden_layers = keys.need<int64_t>("num_hidden_layers");
  model.num_attention_heads = keys.need<int64_t>("num_attention_heads");
  model.num_key_value_heads = keys.need<int64_t>("num_key_value_heads");
  const bool qwen3 = model.architecture == Architecture::qwen3;
  model.head_dim = keys.get<int64_t>("head_dim", qwen3 ? 128 : 0);
  model.max_position_embeddings = keys.get<int64_t>("max_position_embeddings", 32768);
  check_sizes(model, fmt::format("{}: ", file));
  model.initializer_range = keys.get<double>("initializer_range", 0.02);
  model.rms_norm_eps = keys.get<double>("rms_norm_eps", 1e-6);
  model.rope_theta = read_rope_theta(keys);
  model.tie_word_embeddings = keys.get<bool>("tie_word_embeddings", false);
  model.sliding_window = read_window(keys, model.num_hidden_layers);
  keys.only<std::string>("hidden_act", "silu");
  check_biases(keys, model.architecture);
  read_own_keys(keys, model);
  hf.tokens = read_tokens(keys);
  hf.dtype = keys.get<std::string>("dtype", keys.get<std::string>("torch_dtype", "float32"));
  return hf;
}

HfConfig read_hf_config(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) fail_usage("{}: no such file", file.string());
  const json object = json::parse(read_file(file), nullptr, false);
  if (object.is_discarded()) fail_usage("{}: not valid JSON", file.string());
  return from_hf_json(object, file.string());
}

}  // namespace polar

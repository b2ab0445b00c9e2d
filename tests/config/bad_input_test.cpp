// Bad configurations: each is refused with exit code 2 and a message that says where, what was found and what
// was expected.
#include "base/random.h"
#include "config/config_testing.h"

namespace polar::test {
namespace {

using Parts = std::vector<std::string>;

struct BadInput {
  std::string name;
  std::string text;
  std::vector<std::string> overrides;
  Parts expected;  // parts of the message
};

void PrintTo(const BadInput& bad, std::ostream* out) {
  *out << bad.name;
}

BadInput replaced(std::string name, const std::string& piece, const std::string& with, Parts expected) {
  return {std::move(name), valid_with(piece, with), {}, std::move(expected)};
}
BadInput overridden(std::string name, std::string assignment, Parts expected) {
  expected.push_back("override '" + assignment + "'");
  return {std::move(name), kValid, {std::move(assignment)}, std::move(expected)};
}
BadInput whole(std::string name, std::string text, Parts expected) {
  return {std::move(name), std::move(text), {}, std::move(expected)};
}

std::vector<BadInput> unknown_and_missing_keys() {
  return {
      replaced("misspelt_key", "max_steps:", "max_step:",
               {"c.yaml:18:", "'max_step'", "did you mean 'max_steps'?", "init_from"}),
      replaced("misspelt_section",
               "batch:", "bach:", {"c.yaml:13:", "'bach'", "did you mean 'batch'?", "schedule"}),
      replaced("key_of_another_section", "run: {name: t}", "run: {name: t, max_steps: 3}",
               {"c.yaml:1:", "'max_steps'", "'run'", "did you mean 'train.max_steps'?"}),
      replaced("nothing_near", "run: {name: t}", "run: {name: t, zebra: 3}",
               {"c.yaml:1:", "'zebra'", "expected one of: name, dir, seed, device, threads"}),
      replaced("unknown_in_group", "lr: 0.02", "learning_rate: 0.02",
               {"c.yaml:16:", "'learning_rate'", "'optimizer.groups.0'", "expected one of: match, type, lr"}),
      replaced("unknown_in_source", "path: \"a-*.bin\"", "pth: a",
               {"c.yaml:11:", "'pth'", "'data.train.0'", "'path'"}),
      replaced("missing_size", "  hidden_size: 32\n", "",
               {"c.yaml:", "'model.hidden_size'", "missing", "an integer"}),
      replaced("missing_section", "train: {max_steps: 20}\n", "", {"c.yaml", "'train'", "missing"}),
      replaced("missing_max_steps", "max_steps: 20", "recompute: none",
               {"c.yaml:18", "'train.max_steps'", "missing"}),
      replaced("missing_train_data", "  train: [{path: \"a-*.bin\"}]\n", "", {"'data.train'", "missing"}),
      replaced("missing_sequence_length", "  sequence_length: 16\n", "",
               {"'data.sequence_length'", "missing"}),
      replaced("missing_global_tokens", "global_tokens: 128, ", "",
               {"c.yaml:13", "'batch.global_tokens'", "missing"}),
      replaced("missing_type", "type: muon, ", "",
               {"c.yaml:16", "'optimizer.groups.0.type'", "missing", "polargrad"}),
      replaced("missing_match", "match: [\"*\"], ", "",
               {"c.yaml:17", "'optimizer.groups.1.match'", "missing"}),
      replaced("no_value", "{max_steps: 20}", "{max_steps: }",
               {"c.yaml:18", "train.max_steps", "found no value"}),
      replaced("no_groups",
               "    - {match: [\"*_proj.weight\"], type: muon, lr: 0.02}\n"
               "    - {match: [\"*\"], type: adamw, lr: 3.0e-3}\n",
               "    []\n", {"c.yaml:16:", "optimizer.groups", "found a list of 0", "at least one"}),
  };
}

std::vector<BadInput> wrong_types() {
  const std::string integer = "expected an integer from 1";
  return {
      replaced("fraction_for_integer", "vocab_size: 64", "vocab_size: 64.5",
               {"c.yaml:3:", "model.vocab_size", "found '64.5'", integer}),
      replaced("text_for_integer", "vocab_size: 64", "vocab_size: abc",
               {"c.yaml:3:", "found 'abc'", integer}),
      replaced("octal", "vocab_size: 64", "vocab_size: 010",
               {"c.yaml:3:", "'010'", integer, "leading zeros"}),
      replaced("hexadecimal", "vocab_size: 64", "vocab_size: 0x40", {"c.yaml:3:", "'0x40'", integer}),
      replaced("underscore", "vocab_size: 64", "vocab_size: 1_000",
               {"c.yaml:3:", "'1_000'", "without separators"}),
      replaced("suffix", "vocab_size: 64", "vocab_size: 64k", {"c.yaml:3:", "'64k'", integer}),
      replaced("exponent_for_integer", "vocab_size: 64", "vocab_size: 1e3", {"'1e3'", integer, "write 1000"}),
      replaced("quoted_integer", "vocab_size: 64", "vocab_size: \"64\"",
               {"quoted", "'64'", "without quotes"}),
      replaced("plus_sign", "vocab_size: 64", "vocab_size: +64", {"c.yaml:3:", "'+64'", integer}),
      replaced("integer_overflow", "vocab_size: 64", "vocab_size: 99999999999999999999",
               {"c.yaml:3:", "99999999999999999999", "64-bit integer"}),
      replaced("list_for_integer", "vocab_size: 64", "vocab_size: [64]",
               {"c.yaml:3:", "found a list of 1", integer}),
      replaced("map_for_integer", "vocab_size: 64", "vocab_size: {a: 1}",
               {"c.yaml:3:", "found a map", integer}),
      replaced("negative_seed", "{name: t}", "{seed: -1}",
               {"c.yaml:1:", "run.seed", "'-1'", "from 0 to 2^64 - 1"}),
      replaced("text_for_number", "lr: 0.02", "lr: fast",
               {"c.yaml:16:", "optimizer.groups.0.lr", "'fast'", "a number at least 0"}),
      replaced("infinity", "lr: 0.02", "lr: .inf", {"c.yaml:16:", "'.inf'", "a number"}),
      replaced("plain_inf", "lr: 0.02", "lr: inf", {"c.yaml:16:", "'inf'", "finite"}),
      replaced("nan", "lr: 0.02", "lr: nan", {"c.yaml:16:", "'nan'", "finite"}),
      replaced("number_overflow", "lr: 0.02", "lr: 1e999", {"c.yaml:16:", "'1e999'", "64-bit number"}),
      replaced("yes_for_true", "hidden_size: 32", "hidden_size: 32\n  tie_word_embeddings: yes",
               {"c.yaml:5:", "model.tie_word_embeddings", "'yes'", "true | false"}),
      replaced("capital_true", "hidden_size: 32", "hidden_size: 32\n  tie_word_embeddings: True",
               {"c.yaml:5:", "'True'", "true | false"}),
      replaced("scalar_for_section", "run: {name: t}", "run: t",
               {"c.yaml:1:", "run", "found 't'", "expected a map"}),
      replaced("map_for_list", "[{path: \"a-*.bin\"}]", "{path: a}",
               {"c.yaml:11:", "data.train", "a list of maps"}),
      replaced("scalar_in_list", "[{path: \"a-*.bin\"}]", "[a.bin]",
               {"c.yaml:11:", "data.train.0", "'a.bin'", "a map"}),
      replaced("text_for_match", "match: [\"*\"]", "match: \"*\"",
               {"c.yaml:17:", "match", "a list of texts"}),
      replaced("list_for_text", "{name: t}", "{name: [t]}",
               {"c.yaml:1:", "run.name", "a list of 1", "expected text"}),
      replaced("three_betas", "lr: 3.0e-3", "betas: [0.9, 0.95, 0.99]",
               {"c.yaml:17:", "betas", "found a list of 3", "a list of 2 numbers"}),
      replaced("oracle_number", "lr: 0.02", "oracle: {coefficients: [1, 2, 3]}",
               {"c.yaml:16:", "oracle.coefficients.0", "found '1'", "a list of 3 numbers"}),
  };
}

std::vector<BadInput> wrong_choices() {
  return {
      replaced("misspelt_device", "{name: t}", "{device: cdua}",
               {"c.yaml:1:", "run.device", "'cdua'", "auto | cpu | cuda", "did you mean 'cuda'?"}),
      replaced("unknown_architecture", "  hidden_size: 32\n", "  hidden_size: 32\n  architecture: llama\n",
               {"c.yaml:5:", "model.architecture", "'llama'", "qwen2 | qwen3"}),
      replaced("unknown_type", "type: muon", "type: moun", {"c.yaml:16:", "'moun'", "did you mean 'muon'?"}),
      replaced("unknown_schedule", "run: {name: t}", "schedule: {kind: exponential}",
               {"c.yaml:1:", "schedule.kind", "'exponential'", "constant | linear | cosine | wsd"}),
      replaced("unknown_coefficients", "lr: 0.02", "oracle: {coefficients: jordans}",
               {"c.yaml:16:", "'jordans'", "did you mean 'jordan'?"}),
      replaced("unknown_precision", "run: {name: t}", "precision: {compute: fp8}",
               {"c.yaml:1:", "precision.compute", "'fp8'", "fp32 | bf16"}),
      replaced("unknown_packing", "  sequence_length: 16\n", "  sequence_length: 16\n  packing: document\n",
               {"c.yaml:11:", "data.packing", "did you mean 'documents'?"}),
      replaced("unknown_recompute", "max_steps: 20", "max_steps: 20, recompute: layers",
               {"c.yaml:18:", "train.recompute", "none | mlp | layer", "did you mean 'layer'?"}),
  };
}

std::vector<BadInput> out_of_range() {
  return {
      replaced("zero_vocabulary", "vocab_size: 64", "vocab_size: 0", {"c.yaml:3:", "found '0'", "from 1 to"}),
      replaced("negative_hidden", "hidden_size: 32", "hidden_size: -32", {"c.yaml:4:", "'-32'", "from 1 to"}),
      replaced("huge_hidden", "hidden_size: 32", "hidden_size: 4000000000",
               {"c.yaml:4:", "from 1 to 1048576"}),
      replaced("negative_window", "hidden_size: 32", "hidden_size: 32\n  sliding_window: -1",
               {"c.yaml:5:", "model.sliding_window", "'-1'", "from 0"}),
      replaced("beta_one", "lr: 3.0e-3", "betas: [0.9, 1.0]",
               {"c.yaml:17:", "optimizer.groups.1.betas.1", "'1.0'", "at least 0 and below 1"}),
      replaced("soap_beta_one", "type: muon, lr: 0.02", "type: soap, betas: [0.9, 1.0]",
               {"optimizer.groups.0.betas.1", "'1.0'", "at least 0 and below 1"}),
      replaced("soap_frequency", "type: muon, lr: 0.02", "type: soap, precondition_frequency: 0",
               {"precondition_frequency", "'0'", "from 1"}),
      replaced("negative_beta", "lr: 0.02", "momentum: {beta: -0.1}", {"momentum.beta", "'-0.1'", "below 1"}),
      replaced("negative_lr", "lr: 0.02", "lr: -0.02", {"c.yaml:16:", "'-0.02'", "at least 0"}),
      replaced("zero_eps", "lr: 3.0e-3", "eps: 0", {"c.yaml:17:", "eps", "above 0"}),
      replaced("zero_oracle_steps", "lr: 0.02", "oracle: {steps: 0}",
               {"oracle.steps", "'0'", "from 1 to 100"}),
      replaced("decay_fraction", "run: {name: t}", "schedule: {kind: wsd, decay_fraction: 1.5}",
               {"c.yaml:1:", "schedule.decay_fraction", "'1.5'", "from 0 to 1"}),
      replaced("negative_interval", "run: {name: t}", "evaluation: {every_steps: -1}",
               {"c.yaml:1:", "evaluation.every_steps", "'-1'", "from 0"}),
      replaced("negative_keep", "run: {name: t}", "checkpoint: {keep_last: -1}",
               {"checkpoint.keep_last", "'-1'"}),
      replaced("zero_weight", "path: \"a-*.bin\"", "path: a, weight: 0",
               {"data.train.0.weight", "'0'", "above 0"}),
      replaced("zero_steps", "max_steps: 20", "max_steps: 0",
               {"c.yaml:18:", "train.max_steps", "'0'", "from 1"}),
      replaced("zero_log", "run: {name: t}", "log: {every_steps: 0}", {"log.every_steps", "'0'", "from 1"}),
  };
}

std::vector<BadInput> combinations() {
  return {
      replaced("heads_not_divisible", "num_key_value_heads: 2", "num_key_value_heads: 3",
               {"c.yaml:7:", "model.num_key_value_heads", "found 3", "a divisor of num_attention_heads = 4"}),
      replaced("width_not_divisible", "num_attention_heads: 4", "num_attention_heads: 6",
               {"c.yaml:6:", "model.num_attention_heads", "found 6", "hidden_size = 32", "head_dim"}),
      replaced("odd_head", "hidden_size: 32", "hidden_size: 32\n  head_dim: 7",
               {"c.yaml:5:", "found 7", "even"}),
      replaced("odd_resolved_head", "hidden_size: 32", "hidden_size: 36",
               {"model.head_dim", "found 9", "even"}),
      replaced("positions_too_few", "hidden_size: 32", "hidden_size: 32\n  max_position_embeddings: 8",
               {"c.yaml:5:", "max_position_embeddings", "found 8", "at least data.sequence_length = 16"}),
      replaced(
          "global_tokens", "global_tokens: 128", "global_tokens: 130",
          {"c.yaml:13:", "batch.global_tokens", "found 130", "a multiple of", "16 * 4 = 64", "such as 128"}),
      replaced("global_tokens_too_small", "global_tokens: 128", "global_tokens: 32",
               {"found 32", "such as 64"}),
      replaced(
          "invariant_without_micro_batches", "batch: {global_tokens: 128, micro_sequences: 4}",
          "batch: {global_tokens: 128}\ndistributed: {reduction: invariant}",
          {"c.yaml:14:", "distributed.reduction", "found invariant", "batch.micro_sequences is not set"}),
      replaced("invariant_in_bf16", "run: {name: t}",
               "distributed: {reduction: invariant, gradient_dtype: bf16}",
               {"c.yaml:1:", "distributed.gradient_dtype", "found bf16", "expected fp32"}),
      replaced("invariant_with_measured_products", "run: {name: t}",
               "run: {gemm_cache: gemm.txt}\ndistributed: {reduction: invariant}",
               {"c.yaml:1:", "run.gemm_cache", "found gemm.txt", "may choose differently"}),
      replaced("invariant_with_measured_attention", "run: {name: t}",
               "attention: {engine: auto}\ndistributed: {reduction: invariant}",
               {"c.yaml:1:", "attention.engine", "found auto", "expected native or cudnn"}),
      replaced("warmup_too_long", "run: {name: t}", "schedule: {kind: cosine, warmup_steps: 20}",
               {"c.yaml:1:", "schedule.warmup_steps", "found 20", "less than train.max_steps = 20"}),
      replaced("group_warmup_too_long", "lr: 0.02", "schedule: {kind: cosine, warmup_steps: 30}",
               {"c.yaml:16:", "optimizer.groups.0.schedule.warmup_steps", "found 30"}),
      replaced("warmup_meets_decay", "run: {name: t}",
               "schedule: {kind: wsd, warmup_steps: 15, decay_fraction: 0.5}",
               {"c.yaml:1:", "schedule.decay_fraction", "found 0.5", "10 of 20 steps", "only 5 left"}),
      replaced("decay_fraction_of_cosine", "run: {name: t}", "schedule: {kind: cosine, decay_fraction: 0.5}",
               {"c.yaml:1:", "'schedule.decay_fraction'", "no effect", "kind wsd"}),
      replaced("betas_of_muon", "lr: 0.02", "betas: [0.9, 0.95]",
               {"c.yaml:16:", "'optimizer.groups.0.betas'", "needs type adamw"}),
      replaced("oracle_of_adamw", "lr: 3.0e-3", "oracle: {kind: svd}",
               {"c.yaml:17:", "'optimizer.groups.1.oracle'",
                "needs a matrix type (muon, polargrad, sgd, signsgd, lion, matrix)"}),
      replaced("steps_of_svd", "lr: 0.02", "oracle: {kind: svd, steps: 3}",
               {"c.yaml:16:", "'optimizer.groups.0.oracle.steps'", "no effect",
                "oracle kind newton_schulz, polar_express or qdwh"}),
      replaced("coefficients_of_polar_express", "lr: 0.02",
               "oracle: {kind: polar_express, coefficients: jordan}",
               {"c.yaml:16:", "oracle.coefficients'", "needs oracle kind newton_schulz"}),
      replaced("alpha_of_jordan", "lr: 0.02", "scale: {alpha: 0.5}",
               {"scale.alpha'", "needs scale kind nuclear"}),
      replaced("too_many_polynomials", "lr: 0.02", "oracle: {steps: 1, coefficients: [[1, 0, 0], [1, 0, 0]]}",
               {"c.yaml:16:", "oracle.coefficients", "found 2 polynomials for steps = 1"}),
      replaced("everything_taken_early", "match: [\"*_proj.weight\"]", "match: [\"*\"]",
               {"c.yaml:16:", "optimizer.groups.0.match", "put this group last"}),
      replaced("empty_pattern", "match: [\"*\"]", "match: [\"*\", \"\"]",
               {"c.yaml:17:", "match.1", "empty pattern"}),
      replaced("empty_path", "path: \"a-*.bin\"", "path: \"\"",
               {"c.yaml:11:", "data.train.0.path", "empty text"}),
      replaced("empty_name", "{name: t}", "{name: \"\"}", {"c.yaml:1:", "run.name", "empty text"}),
      replaced("bf16_on_cpu", "run: {name: t}", "run: {device: cpu}\nprecision: {compute: bf16}",
               {"c.yaml:2:", "precision.compute", "found bf16", "run.device is cpu"}),
      replaced("bf16_gradients_on_cpu", "run: {name: t}", "run: {device: cpu}\nprecision: {gradients: bf16}",
               {"c.yaml:2:", "precision.gradients", "run.device is cpu"}),
      replaced("evaluation_without_data", "  validation: [{path: \"v-*.bin\"}]\n",
               "evaluation: {every_steps: 5}\n",
               {"c.yaml:12:", "evaluation.every_steps", "found 5", "data.validation is empty"}),
      replaced("best_without_data", "  validation: [{path: \"v-*.bin\"}]\n",
               "checkpoint: {keep_best: true}\n",
               {"c.yaml:12:", "checkpoint.keep_best", "data.validation is empty"}),
      replaced("guard_window", "run: {name: t}", "guard: {window: 16, minimum: 17}",
               {"c.yaml:1:", "guard.minimum", "found 17", "guard.window = 16"}),
  };
}

std::vector<BadInput> broken_files() {
  return {
      whole("empty", "", {"c.yaml", "the file is empty"}),
      whole("only_comments", "# nothing\n\n", {"c.yaml", "the file is empty"}),
      whole("scalar", "hello\n", {"c.yaml:1:", "found 'hello'", "the sections of a configuration"}),
      whole("list", "- a\n- b\n", {"c.yaml:1:", "found a list of 2", "the sections"}),
      whole("broken_flow", kValid + "log: {every_steps: 5\n", {"c.yaml:", "not YAML"}),
      whole("broken_indentation", kValid + "log:\n  every_steps: 5\n tensorboard: true\n",
            {"c.yaml:21:", "not YAML"}),
      whole("tabs", kValid + "log:\n\tevery_steps: 5\n", {"c.yaml:20:", "not YAML", "tabs"}),
      whole("two_documents", kValid + "---\nrun: {name: u}\n", {"c.yaml", "second YAML document"}),
      whole("binary", std::string("\0\1\2\xff\xfe{[", 7), {"c.yaml"}),
      whole("duplicate_key", kValid + "train: {max_steps: 30}\n",
            {"c.yaml:19:", "'train'", "second time", "first at", "c.yaml:18"}),
      replaced("duplicate_inner_key", "hidden_size: 32", "hidden_size: 32\n  hidden_size: 64",
               {"c.yaml:5:", "'hidden_size'", "c.yaml:4"}),
      replaced("alias", "match: [\"*\"]", "match: [*]", {"c.yaml:17", "YAML"}),
      replaced("anchor", "run: {name: t}", "run: &x {name: t}", {"c.yaml:1:", "anchor", "include"}),
      replaced("tag", "vocab_size: 64", "vocab_size: !!int 64", {"c.yaml:3:", "tag"}),
      replaced("list_as_key", "run: {name: t}", "? [a, b]\n: 1", {"c.yaml:1:", "a key was expected"}),
      replaced("no_key", "run: {name: t}", "run: {: t}", {"c.yaml:1:", "key"}),
      whole("deep_nesting", "run: " + std::string(5000, '[') + "\n", {"c.yaml:1:", "bracket"}),
      whole("deep_nesting_closed", "run: " + std::string(5000, '[') + std::string(5000, ']') + "\n",
            {"c.yaml:1:", "not YAML"}),
  };
}

std::vector<BadInput> overrides() {
  return {
      overridden("override_type", "train.max_steps=abc",
                 {"train.max_steps", "found 'abc'", "an integer from 1"}),
      overridden("override_key", "train.max_stesp=3", {"'max_stesp'", "did you mean 'max_steps'?"}),
      overridden("override_section", "trian.max_steps=3", {"'trian'", "did you mean 'train'?"}),
      overridden("override_without_value", "train.max_steps", {"found no '='", "section.key=value"}),
      overridden("override_without_key", "=3", {"empty name", "section.key=value"}),
      overridden("override_empty_segment", "train..max_steps=3", {"empty name"}),
      overridden("override_position", "optimizer.groups.7.lr=1", {"found '7'", "a list of 2"}),
      overridden("override_position_text", "optimizer.groups.first.lr=1", {"found 'first'", "a list of 2"}),
      overridden("override_inside_scalar", "train.max_steps.x=1",
                 {"'x'", "the plain value '20'", "c.yaml:18"}),
      overridden("override_combination", "batch.global_tokens=100", {"batch.global_tokens", "found 100"}),
      overridden("override_flow_syntax", "optimizer.groups.1.betas=[0.9,", {"bracket"}),
      overridden("override_resets_unknown_key",
                 "train.max_stesp=", {"'max_stesp'", "did you mean 'max_steps'?"}),
      overridden("override_resets_list_entry", "data.train.0=", {"data.train.0", "found no value", "a map"}),
      overridden("override_resets_type",
                 "optimizer.groups.0.type=", {"groups.0.type", "found no value", "polargrad"}),
      {"override_resets_required_key",
       kValid,
       {"train.max_steps="},
       {"c.yaml:18", "'train.max_steps'", "missing"}},
      overridden("override_include", "include=a.yaml", {"'include'", "inside a file"}),
      overridden("override_appends_incomplete", "optimizer.groups.2.lr=1",
                 {"'optimizer.groups.2.match'", "missing"}),
  };
}

std::vector<BadInput> all_cases() {
  std::vector<BadInput> all;
  for (const auto& part : {unknown_and_missing_keys(), wrong_types(), wrong_choices(), out_of_range(),
                           combinations(), broken_files(), overrides()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

class BadConfig : public ConfigTest, public ::testing::WithParamInterface<BadInput> {};

TEST_P(BadConfig, IsRefusedWithAClearMessage) {
  const BadInput& bad = GetParam();
  const std::string message = error_of(write("c.yaml", bad.text), bad.overrides);
  for (const std::string& part : bad.expected) EXPECT_THAT(message, ::testing::HasSubstr(part));
}

INSTANTIATE_TEST_SUITE_P(Cases, BadConfig, ::testing::ValuesIn(all_cases()),
                         [](const auto& test) { return test.param.name; });

TEST_F(ConfigTest, TheUnchangedFileIsValid) {
  EXPECT_EQ(load(kValid).train.max_steps, 20);
}

TEST_F(ConfigTest, MissingFilesAndDirectoriesAreNamed) {
  EXPECT_THAT(error_of(directory_ / "none.yaml"), ::testing::HasSubstr("none.yaml: there is no such"));
  EXPECT_THAT(error_of(directory_.path()), ::testing::HasSubstr("found a directory, expected a YAML file"));
}

TEST_F(ConfigTest, AnEnormousFileIsRefused) {
  EXPECT_THAT(error_of(write("c.yaml", std::string((1 << 20) + 1, '#'))),
              ::testing::HasSubstr("at most 1048576"));
}

// Damaged files end in a configuration or in an error with exit code 2, never in anything else.
TEST_F(ConfigTest, DamagedTextNeverEscapesAsAnotherError) {
  const std::string characters = "{}[]:,-?*&!|>'\"%@` \n\t#\\0a\xff";
  int refused = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    std::string text = kValid;
    for (uint64_t edit = 0; edit <= i % 3; ++edit) {
      const uint64_t bits = random_bits(1, edit, i);
      text[bits % text.size()] = characters[(bits >> 32) % characters.size()];
    }
    try {
      load(text);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::bad_usage) << error.what() << "\n" << text;
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace polar::test

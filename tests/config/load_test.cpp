// Overrides, includes, defaults, and the round trip through to_yaml.
#include <limits>

#include "config/config_testing.h"

namespace polar::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(ConfigTest, FillsDefaults) {
  const Experiment e = load(kValid);
  EXPECT_EQ(e.run.dir, "runs/t");
  EXPECT_EQ(e.run.seed, 1337u);
  EXPECT_EQ(e.model.architecture, Architecture::qwen3);
  EXPECT_EQ(e.model.head_dim, 8);
  EXPECT_EQ(e.model.max_position_embeddings, 16);
  EXPECT_EQ(e.data.train[0].weight, 1.0);
  EXPECT_EQ(e.schedule.kind, ScheduleKind::constant);
  EXPECT_EQ(e.precision.compute, "fp32");
}

TEST_F(ConfigTest, ShampooAndSoapHaveTheirOwnDefaults) {
  const Experiment e = load(valid_with("type: muon, lr: 0.02}",
                                       "type: shampoo, betas: [0.9, 1.0]}\n"
                                       "    - {match: [b], type: soap, max_dimension: 100}"));
  const GroupConfig &shampoo = e.optimizer.groups[0], &soap = e.optimizer.groups[1];
  EXPECT_EQ(shampoo.type, GroupType::shampoo);
  EXPECT_EQ(shampoo.betas, (std::array{0.9, 1.0}));
  EXPECT_EQ(shampoo.eps, 1e-6);
  EXPECT_EQ(soap.type, GroupType::soap);
  EXPECT_EQ(soap.betas, (std::array{0.95, 0.95}));
  EXPECT_EQ(soap.eps, 1e-8);
  EXPECT_EQ(soap.precondition_frequency, 10);
  EXPECT_EQ(soap.max_dimension, 100);
}

TEST_F(ConfigTest, TypesAreNamesForSetsOfMatrixKeys) {
  const Experiment e =
      load(valid_with("    - {match: [\"*\"]",
                      "    - {match: [a], type: polargrad}\n    - {match: [b], type: matrix}\n"
                      "    - {match: [\"*\"]"));
  const GroupConfig& muon = e.optimizer.groups[0];
  EXPECT_EQ(muon.type, GroupType::matrix);
  EXPECT_EQ(muon.name, "muon");
  EXPECT_EQ(muon.momentum, (MomentumConfig{MomentumKind::first, 0.95, true}));
  EXPECT_EQ(muon.oracle.kind, OracleKind::newton_schulz);
  EXPECT_EQ(muon.oracle.steps, 5);
  EXPECT_EQ(muon.oracle.coefficients, "jordan");
  EXPECT_EQ(muon.scale.kind, ScaleKind::jordan);
  const GroupConfig& polargrad = e.optimizer.groups[1];
  EXPECT_EQ(polargrad.momentum, (MomentumConfig{MomentumKind::first, 0.95, false}));
  EXPECT_EQ(polargrad.oracle.kind, OracleKind::polar_express);
  EXPECT_EQ(polargrad.scale.kind, ScaleKind::nuclear);
  EXPECT_EQ(polargrad.scale.alpha, 1.0);
  EXPECT_EQ(e.optimizer.groups[2].type, GroupType::matrix);
  EXPECT_EQ(e.optimizer.groups[3].type, GroupType::adamw);
}

TEST_F(ConfigTest, EachKeyOfASetCanBeOverridden) {
  const Experiment e = load(valid_with("lr: 0.02",
                                       "lr: 0.02, momentum: {nesterov: false}, "
                                       "oracle: {coefficients: [[1.5, -0.5, 0]]}, "
                                       "scale: {kind: nuclear, alpha: 0.5, factor: 0.2}"));
  const GroupConfig& group = e.optimizer.groups[0];
  EXPECT_EQ(group.momentum, (MomentumConfig{MomentumKind::first, 0.95, false}));
  EXPECT_EQ(group.oracle.kind, OracleKind::newton_schulz);
  EXPECT_EQ(group.oracle.coefficients, "custom");
  ASSERT_EQ(group.oracle.custom.size(), 1u);
  EXPECT_THAT(group.oracle.custom[0], ElementsAre(1.5, -0.5, 0.0));
  EXPECT_EQ(group.scale, (ScaleConfig{ScaleKind::nuclear, 0.5, 0.2}));
}

TEST_F(ConfigTest, OverridesReachEveryKindOfValue) {
  const Experiment e =
      load(kValid, {"train.max_steps=40", "optimizer.groups.0.lr=1e-3", "optimizer.groups.1.betas=[0.9,0.99]",
                    "data.train.0.path=x/*.bin", "data.train.1={path: y.bin, weight: 2}",
                    "model.tie_word_embeddings=true", "schedule.kind=cosine", "log.tensorboard=false",
                    "run.name=a=b c"});
  EXPECT_EQ(e.train.max_steps, 40);
  EXPECT_EQ(e.optimizer.groups[0].lr, 1e-3);
  EXPECT_THAT(e.optimizer.groups[1].betas, ElementsAre(0.9, 0.99));
  ASSERT_EQ(e.data.train.size(), 2u);
  EXPECT_EQ(e.data.train[0].path, "x/*.bin");
  EXPECT_EQ(e.data.train[1].weight, 2.0);
  EXPECT_TRUE(e.model.tie_word_embeddings);
  EXPECT_EQ(e.schedule.kind, ScheduleKind::cosine);
  EXPECT_FALSE(e.log.tensorboard);
  EXPECT_EQ(e.run.name, "a=b c");
}

TEST_F(ConfigTest, TheLastOverrideWinsAndAnEmptyOneRestoresTheDefault) {
  EXPECT_EQ(load(kValid, {"train.max_steps=40", "train.max_steps=50"}).train.max_steps, 50);
  EXPECT_EQ(load(valid_with("{name: t}", "{name: t, seed: 5}"), {"run.seed="}).run.seed, 1337u);
  EXPECT_EQ(load(kValid, {"run.seed="}).run.seed, 1337u);
  const std::string wsd = valid_with("run: {name: t}", "schedule: {kind: wsd, decay_fraction: 0.2}");
  EXPECT_EQ(load(wsd, {"schedule.kind=cosine", "schedule.decay_fraction="}).schedule.kind,
            ScheduleKind::cosine);
  EXPECT_EQ(load(wsd, {"schedule={kind: linear}"}).schedule.kind, ScheduleKind::linear);
}

TEST_F(ConfigTest, ListsCanBeBuiltByOverrides) {
  const std::string text = valid_with("  train: [{path: \"a-*.bin\"}]\n", "");
  EXPECT_EQ(load(text, {"data.train.0.path=z.bin"}).data.train[0].path, "z.bin");
}

TEST_F(ConfigTest, IncludesMergeMapsAndReplaceLists) {
  write("base/model.yaml", kValid);
  write("base/more.yaml", "model: {vocab_size: 96, hidden_size: 16}\nrun: {seed: 7}\n");
  const Experiment e = load(
      "include: [base/model.yaml, base/more.yaml]\n"
      "model: {hidden_size: 64}\n"
      "data: {train: [{path: b.bin}, {path: c.bin}]}\n");
  EXPECT_EQ(e.model.vocab_size, 96);         // the later include
  EXPECT_EQ(e.model.hidden_size, 64);        // the file itself
  EXPECT_EQ(e.model.intermediate_size, 48);  // the first include
  EXPECT_EQ(e.run.seed, 7u);
  EXPECT_EQ(e.data.train.size(), 2u);
  EXPECT_EQ(e.data.validation.size(), 1u);
}

TEST_F(ConfigTest, IncludesAreRelativeToTheIncludingFileAndNest) {
  write("a/b/inner.yaml", kValid);
  write("a/outer.yaml", "include: b/inner.yaml\ntrain: {max_steps: 30}\n");
  EXPECT_EQ(load("include: a/outer.yaml\n").train.max_steps, 30);
}

TEST_F(ConfigTest, AKeyWithoutValueRemovesTheIncludedOne) {
  write("base.yaml",
        valid_with("run: {name: t}", "schedule: {kind: wsd, decay_fraction: 0.2, warmup_steps: 3}"));
  const Experiment e = load("include: base.yaml\nschedule: {kind: cosine, decay_fraction: }\n");
  EXPECT_EQ(e.schedule.kind, ScheduleKind::cosine);
  EXPECT_EQ(e.schedule.warmup_steps, 3);
}

TEST_F(ConfigTest, TheSameFileMayBeIncludedTwiceOnDifferentWays) {
  write("base.yaml", kValid);
  write("left.yaml", "include: base.yaml\n");
  write("right.yaml", "include: base.yaml\n");
  EXPECT_EQ(load("include: [left.yaml, right.yaml]\n").train.max_steps, 20);
}

TEST_F(ConfigTest, ErrorsNameTheIncludedFile) {
  write("base.yaml", valid_with("vocab_size: 64", "vocab_size: x"));
  EXPECT_THAT(error_of(write("c.yaml", "include: base.yaml\n")), HasSubstr("base.yaml:3: model.vocab_size"));
}

TEST_F(ConfigTest, BadIncludesAreRefused) {
  write("a.yaml", "include: b.yaml\n");
  write("b.yaml", "\ninclude: [a.yaml]\n");
  EXPECT_THAT(error_of(directory_ / "a.yaml"), HasSubstr("b.yaml:2: include: 'a.yaml' includes itself"));
  EXPECT_THAT(error_of(write("c.yaml", "include: c.yaml\n")),
              HasSubstr("c.yaml:1: include: 'c.yaml' includes itself"));
  EXPECT_THAT(error_of(write("c.yaml", "run: {}\ninclude: no.yaml\n")),
              HasSubstr("c.yaml:2: include: there is no file 'no.yaml'"));
  EXPECT_THAT(error_of(write("c.yaml", "include: {a: b}\n")), HasSubstr("c.yaml:1: include: found a map"));
  EXPECT_THAT(error_of(write("c.yaml", "include: []\n")), HasSubstr("c.yaml:1: include: found a list of 0"));
  EXPECT_THAT(error_of(write("c.yaml", "run: {include: a.yaml}\n")), HasSubstr("unknown key 'include'"));
}

// Every member away from its default, with numbers that have no short decimal form.
Experiment unusual() {
  Experiment e;
  e.run = {.name = "a \"b\" \\ #c: é",
           .dir = "x/y z",
           .seed = std::numeric_limits<uint64_t>::max(),
           .device = "cuda",
           .threads = 3,
           .gemm_cache = "g emm"};
  e.model = {.architecture = Architecture::qwen2,
             .vocab_size = 101,
             .hidden_size = 30,
             .num_hidden_layers = 3,
             .num_attention_heads = 6,
             .num_key_value_heads = 3,
             .head_dim = 8,
             .intermediate_size = 77,
             .max_position_embeddings = 99,
             .rope_theta = 1.0e4 / 3.0,
             .rms_norm_eps = 1.0e-5 / 7.0,
             .tie_word_embeddings = true,
             .sliding_window = 5,
             .initializer_range = 0.1 + 0.2,
             .scale_residual_init = true,
             .z_loss = 5e-324,
             .logit_softcap = 1.0e300 / 3.0};
  e.data = {.sequence_length = 12,
            .tokenizer = "bytes",
            .train = {{"a b", 1.0 / 3.0}, {"[x]", 2.5}},
            .validation = {{"- v", 0.7}},
            .packing = Packing::documents,
            .prefetch_batches = 0};
  e.batch = {.global_tokens = 12 * 5 * 7, .micro_sequences = 5};
  GroupConfig matrix;
  matrix = {.match = {"*_proj.weight", "true", "1"},
            .name = "matrix",
            .type = GroupType::matrix,
            .lr = 1.0 / 7.0,
            .weight_decay = 1.0 / 9.0,
            .momentum = {MomentumKind::polar_first, 1.0 / 11.0, true},
            .oracle = {OracleKind::newton_schulz, 4, "custom", {{1.0 / 3.0, -2.0 / 3.0, 1e-17}, {1, 2, 3}}},
            .scale = {ScaleKind::nuclear, 1.0 / 13.0, 1.0 / 17.0},
            .schedule = ScheduleConfig{ScheduleKind::wsd, 2, 1.0 / 3.0, 1.0 / 19.0}};
  GroupConfig express = matrix;
  express.oracle = OracleConfig();
  express.oracle.steps = 6;
  express.oracle.lower_bound = 1.0e-4 / 3.0;
  express.schedule.reset();
  GroupConfig adamw;
  adamw.match = {"*"};
  adamw.name = "adamw";
  adamw.lr = 1e-5 / 3.0;
  adamw.betas = {0.1 + 0.2, 2.0 / 3.0};
  adamw.eps = 1e-9 / 3.0;
  e.optimizer = {.groups = {matrix, express, adamw}, .clip_norm = 1.0 / 23.0};
  e.schedule = {.kind = ScheduleKind::cosine, .warmup_steps = 4, .final = 1.0 / 29.0};
  e.precision = {.compute = "bf16", .gradients = "bf16"};
  e.train = {.max_steps = 41, .recompute = Recompute::layer, .init_from = "some/where"};
  e.guard = {
      .enabled = false, .deviations = 1.0 / 31.0, .window = 9, .minimum = 8, .max_consecutive_skips = 2};
  e.evaluation = {.every_steps = 3, .sequences = 4};
  e.checkpoint = {.every_steps = 5, .keep_last = 6, .keep_every = 7, .keep_best = true, .background = false};
  e.distributed = {.backend = "gloo", .timeout_seconds = 10.0 / 3.0};
  e.log = {.every_steps = 8, .tensorboard = false};
  return e;
}

TEST_F(ConfigTest, ToYamlAndBackIsExact) {
  const Experiment e = unusual();
  const Experiment again = load(to_yaml(e));
  EXPECT_EQ(again, e);
  EXPECT_THAT(differences(e, again), ElementsAre());
  EXPECT_EQ(to_yaml(again), to_yaml(e));
}

TEST_F(ConfigTest, ResolvedDefaultsComeBackToo) {
  const Experiment e = load(kValid);
  EXPECT_EQ(load(to_yaml(e)), e);
}

TEST_F(ConfigTest, TheHashIgnoresWhatDoesNotChangeTheResult) {
  const Experiment e = load(kValid);
  const std::string hash = config_hash(e);
  EXPECT_EQ(hash.size(), 32u);
  for (const char* same :
       {"run.name=other", "run.dir=elsewhere", "run.device=cpu", "run.threads=3", "evaluation.every_steps=7",
        "evaluation.sequences=3", "checkpoint.every_steps=9", "checkpoint.keep_last=0", "log.every_steps=3",
        "log.tensorboard=false", "data.prefetch_batches=1", "run.seed=1337"})
    EXPECT_EQ(config_hash(load(kValid, {same})), hash) << same;
  for (const char* other :
       {"run.seed=1", "model.vocab_size=65", "model.z_loss=1e-4", "data.sequence_length=8",
        "data.train.0.path=b.bin", "batch.global_tokens=192", "batch.micro_sequences=2",
        "optimizer.groups.0.lr=0.03", "optimizer.groups.1.betas=[0.9,0.96]", "optimizer.clip_norm=2",
        "schedule.warmup_steps=1", "train.max_steps=21", "guard.window=64", "precision.compute=bf16"})
    EXPECT_NE(config_hash(load(kValid, {other})), hash) << other;
}

TEST_F(ConfigTest, DifferencesNameKeysAndBothValues) {
  const Experiment a = load(kValid);
  const Experiment b = load(
      kValid, {"run.name=u", "train.max_steps=40", "optimizer.groups.0.type=adamw", "schedule.kind=cosine"});
  EXPECT_THAT(differences(a, a), ElementsAre());
  const std::vector<std::string> all = differences(a, b);
  EXPECT_THAT(
      all,
      ::testing::IsSupersetOf(
          {"run.name: t -> u", "run.dir: runs/t -> runs/u", "train.max_steps: 20 -> 40",
           "optimizer.groups.0.type: muon -> adamw", "optimizer.groups.0.momentum.beta: 0.95 -> (not set)",
           "optimizer.groups.0.betas: (not set) -> [0.9, 0.95]", "schedule.kind: constant -> cosine"}));
  const std::vector<std::string> result_keys = differences(a, b, Compare::result_keys);
  EXPECT_THAT(result_keys, ::testing::Not(::testing::Contains(HasSubstr("run."))));
  EXPECT_THAT(result_keys, ::testing::Contains("train.max_steps: 20 -> 40"));
}

}  // namespace
}  // namespace polar::test

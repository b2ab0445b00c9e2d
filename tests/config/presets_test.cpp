// The files under configs/: all load, and the reference is what the table of keys says.
#include <algorithm>
#include <cstdlib>
#include <set>

#include "base/file.h"
#include "config/config_testing.h"
#include "config/reader.h"
#include "config/tree.h"
#include "config/writer.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;

const fs::path kConfigs = fs::path(POLAR_SOURCE_DIR) / "configs";

std::vector<fs::path> complete_configurations() {
  std::vector<fs::path> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(kConfigs))
    if (const fs::path folder = entry.path().parent_path().filename();
        entry.path().extension() == ".yaml" && folder != "parts" && folder != "hardware")
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

class Preset : public ConfigTest, public ::testing::WithParamInterface<fs::path> {};

TEST_P(Preset, LoadsAndItsResolvedFormLoadsAsTheSame) {
  const Experiment e = load_experiment(GetParam(), {});
  EXPECT_EQ(load(to_yaml(e)), e);
  EXPECT_EQ(config_hash(load(to_yaml(e))), config_hash(e));
}

INSTANTIATE_TEST_SUITE_P(Configs, Preset, ::testing::ValuesIn(complete_configurations()),
                         [](const auto& test) {
                           std::string name = test.param.lexically_relative(kConfigs).string();
                           for (char& c : name)
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           return name;
                         });

TEST(Presets, AreAllThere) {
  for (const char* name : {"demo.yaml",
                           "reference.yaml",
                           "models/qwen2.5-0.5b.yaml",
                           "models/qwen2.5-1.5b.yaml",
                           "models/qwen2.5-3b.yaml",
                           "models/qwen3-0.6b.yaml",
                           "models/qwen3-1.7b.yaml",
                           "models/124m.yaml",
                           "models/polargrad-540m.yaml",
                           "bench/3m.yaml",
                           "bench/16m.yaml",
                           "learning/adamw.yaml",
                           "learning/muon.yaml",
                           "learning/polargrad.yaml",
                           "study/adamw.yaml",
                           "study/muon.yaml",
                           "study/polargrad.yaml",
                           "study/muon-polarsgdm.yaml",
                           "study/soap.yaml",
                           "study/qwen2.5-540m-adamw.yaml",
                           "study/qwen2.5-540m-muon.yaml",
                           "study/qwen2.5-540m-muon-polarsgdm.yaml"})
    EXPECT_TRUE(fs::is_regular_file(kConfigs / name)) << name;
}

// The three settings of the paper's Qwen2.5 pre-training (arXiv 2505.21799, section 6.4) differ in nothing
// but this.
TEST(Presets, ThePapersQwenRuns) {
  const auto preset = [](const char* name) { return load_experiment(kConfigs / "study" / name, {}); };
  const Experiment adamw = preset("qwen2.5-540m-adamw.yaml"), muon = preset("qwen2.5-540m-muon.yaml");
  const Experiment polar = preset("qwen2.5-540m-muon-polarsgdm.yaml");
  for (const Experiment& e : {adamw, muon, polar}) {
    EXPECT_EQ(e.model, polar.model);
    EXPECT_EQ(e.data, polar.data);
    EXPECT_EQ(e.batch.global_tokens, 16 * 512);
    EXPECT_EQ(e.train.max_steps, 13'300);
    EXPECT_EQ(e.optimizer.clip_norm, 0.0);
    EXPECT_EQ(e.log.diagnostics_every_steps, 50);
    EXPECT_EQ(e.log.spectra, (std::vector<std::string>{"model.embed_tokens.weight", "lm_head.weight"}));
    for (const GroupConfig& group : e.optimizer.groups) EXPECT_EQ(group.lr, 1e-3);
  }
  EXPECT_EQ(adamw.schedule, (ScheduleConfig{.kind = ScheduleKind::cosine, .warmup_steps = 100}));
  EXPECT_EQ(muon.schedule, (ScheduleConfig{.kind = ScheduleKind::wsd_linear, .decay_fraction = 0.4}));
  EXPECT_EQ(polar.schedule, muon.schedule);
  ASSERT_EQ(adamw.optimizer.groups.size(), 1u);
  ASSERT_EQ(muon.optimizer.groups.size(), 2u);
  ASSERT_EQ(polar.optimizer.groups.size(), 3u);
  EXPECT_EQ(adamw.optimizer.groups[0].weight_decay, 0.1);
  EXPECT_EQ(polar.optimizer.groups[0], muon.optimizer.groups[0]);
  const GroupConfig &hidden = muon.optimizer.groups[0], &ends = polar.optimizer.groups[1];
  EXPECT_EQ(hidden.momentum,
            (MomentumConfig{.kind = MomentumKind::heavy_ball, .beta = 0.95, .nesterov = true}));
  EXPECT_EQ(hidden.scale.kind, ScaleKind::rms_match);
  EXPECT_EQ(hidden.weight_decay, 0.0);
  EXPECT_EQ(ends.match, (std::vector<std::string>{"model.embed_tokens.weight", "lm_head.weight"}));
  EXPECT_EQ(ends.momentum, (MomentumConfig{.kind = MomentumKind::first, .beta = 0.5, .nesterov = false}));
  EXPECT_EQ(ends.oracle.kind, OracleKind::qdwh);
  EXPECT_EQ(ends.oracle.steps, 5);
  EXPECT_EQ(ends.scale, (ScaleConfig{.kind = ScaleKind::nuclear, .alpha = 1.0, .factor = 1.0}));
}

// Dotted keys of a tree, positions in lists as "N".
void collect_keys(const ConfigNode& node, const std::string& path, std::set<std::string>& keys) {
  for (const ConfigEntry& entry : node.entries) {
    const std::string inner = path.empty() ? entry.key : path + "." + entry.key;
    const bool leaf = entry.value.entries.empty() &&
                      (entry.value.items.empty() || entry.value.items.front().entries.empty());
    if (leaf) keys.insert(inner);
    collect_keys(entry.value, inner, keys);
    for (const ConfigNode& item : entry.value.items) collect_keys(item, inner + ".N", keys);
  }
}

// To write the file anew after a change of the table: POLAR_WRITE_REFERENCE=1 test_config
TEST(Reference, IsWrittenFromTheTable) {
  const fs::path file = kConfigs / "reference.yaml";
  if (std::getenv("POLAR_WRITE_REFERENCE")) write_file_atomically(file, reference_yaml());
  EXPECT_EQ(read_file(file), reference_yaml()) << "run the test once with POLAR_WRITE_REFERENCE=1";
}

TEST(Reference, HoldsEveryKeyOfTheTableAndNoOther) {
  std::set<std::string> keys;
  collect_keys(read_config_tree(kConfigs / "reference.yaml"), "", keys);
  const std::vector<std::string> table = all_key_paths();
  EXPECT_EQ(keys, std::set<std::string>(table.begin(), table.end()));
}

// Only required keys, and the kind that lets every key of a schedule apply, differ from their defaults.
TEST(Reference, ShowsTheDefaults) {
  Experiment e = load_experiment(kConfigs / "reference.yaml", {});
  Experiment defaults;
  EXPECT_EQ(e.run.dir, "runs/run");
  e.run.dir = defaults.run.dir;
  EXPECT_EQ(e.run, defaults.run);
  EXPECT_EQ(e.schedule.kind, ScheduleKind::wsd);
  e.schedule.kind = defaults.schedule.kind;
  EXPECT_EQ(e.schedule, defaults.schedule);
  EXPECT_EQ(e.precision, defaults.precision);
  EXPECT_EQ(e.guard, defaults.guard);
  EXPECT_EQ(e.evaluation, defaults.evaluation);
  EXPECT_EQ(e.checkpoint, defaults.checkpoint);
  EXPECT_EQ(e.log, defaults.log);
  for (GroupConfig group : e.optimizer.groups) {
    group.match.clear();
    group.schedule.reset();
    // One group has another oracle, so that its keys apply.
    if (group.oracle.kind == OracleKind::qdwh) group.oracle.kind = group_defaults(group.name).oracle.kind;
    EXPECT_EQ(group, group_defaults(group.name));
  }
  e.model.vocab_size = e.model.hidden_size = e.model.num_hidden_layers = e.model.num_attention_heads = 0;
  e.model.num_key_value_heads = e.model.intermediate_size = 0;
  e.model.head_dim = e.model.max_position_embeddings = 0;  // resolved from the required sizes
  EXPECT_EQ(e.model, defaults.model);
}

}  // namespace
}  // namespace polar::test

// Parameter counts of the presets against the published numbers.
#include <gtest/gtest.h>

#include "config/experiment.h"
#include "model/registry.h"

namespace polar::test {
namespace {

struct Known {
  const char* preset;
  int64_t parameters;
};

class ParameterCount : public testing::TestWithParam<Known> {};

TEST_P(ParameterCount, IsThePublishedOne) {
  const Experiment e =
      load_experiment(std::string(POLAR_SOURCE_DIR) + "/configs/" + GetParam().preset + ".yaml", {});
  EXPECT_EQ(make_registry(e.model).parameter_count(), GetParam().parameters);
}

// Qwen: the sum of the tensors of the published checkpoints (their model cards round it: 0.49B, 1.54B,
// 0.6B, 1.7B). polargrad-540m: the PolarGrad paper, section 6.4. 124m, demo and bench: counted by hand in the
// files' comments.
INSTANTIATE_TEST_SUITE_P(
    Presets, ParameterCount,
    testing::Values(Known{"models/qwen2.5-0.5b", 494'032'768}, Known{"models/qwen2.5-1.5b", 1'543'714'304},
                    Known{"models/qwen2.5-3b", 3'085'938'688}, Known{"models/qwen3-0.6b", 596'049'920},
                    Known{"models/qwen3-1.7b", 1'720'574'976}, Known{"models/polargrad-540m", 540'865'536},
                    Known{"models/124m", 123'588'864}, Known{"demo", 5'770'880}, Known{"bench/3m", 3'148'608},
                    Known{"bench/16m", 15'736'192}, Known{"study/adamw", 1'069'120},
                    Known{"study/muon-polarsgdm", 1'069'120}, Known{"study/qwen2.5-540m-adamw", 540'865'536},
                    Known{"study/qwen2.5-540m-muon", 540'865'536},
                    Known{"study/qwen2.5-540m-muon-polarsgdm", 540'865'536}));

}  // namespace
}  // namespace polar::test

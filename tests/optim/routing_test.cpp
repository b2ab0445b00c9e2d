// Routing: glob patterns, first match wins, and every way to get it wrong.
#include "optim/routing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace polar {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ParameterRegistry small_model() {
  ParameterRegistry registry;
  registry.add("model.embed_tokens.weight", Role::embedding, {32, 8});
  registry.add("model.layers.0.self_attn.q_proj.weight", Role::matrix, {8, 8});
  registry.add("model.layers.0.self_attn.q_proj.bias", Role::bias, {8});
  registry.add("model.norm.weight", Role::norm, {8});
  return registry;
}

GroupConfig group(GroupType type, std::vector<std::string> match) {
  GroupConfig g;
  g.type = type;
  g.name = type == GroupType::adamw ? "adamw" : "muon";
  g.match = std::move(match);
  return g;
}

void expect_refused(const std::vector<GroupConfig>& groups, const std::vector<const char*>& words) {
  try {
    route_parameters(groups, small_model());
    ADD_FAILURE() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
    for (const char* word : words) EXPECT_THAT(error.what(), HasSubstr(word));
  }
}

TEST(Glob, StarsAndQuestionMarks) {
  EXPECT_TRUE(glob_match("*", ""));
  EXPECT_TRUE(glob_match("*", "a.b.c"));
  EXPECT_TRUE(glob_match("*_proj.weight", "model.layers.0.mlp.up_proj.weight"));
  EXPECT_FALSE(glob_match("*_proj.weight", "model.layers.0.self_attn.q_proj.bias"));
  EXPECT_FALSE(glob_match("_proj", "q_proj"));  // the whole name must match
  EXPECT_TRUE(glob_match("layers.?.x", "layers.7.x"));
  EXPECT_FALSE(glob_match("layers.?.x", "layers.17.x"));
  EXPECT_TRUE(glob_match("*a*ab", "aaaab"));
  EXPECT_FALSE(glob_match("*a*ab", "ab"));
  EXPECT_TRUE(glob_match("ab**", "ab"));
  EXPECT_FALSE(glob_match("", "a"));
  EXPECT_FALSE(glob_match("?", ""));
}

TEST(Routing, FirstMatchWins) {
  const std::vector<GroupConfig> groups = {group(GroupType::adamw, {"*norm*", "*bias"}),
                                           group(GroupType::matrix, {"model.layers.*"}),
                                           group(GroupType::adamw, {"*"})};
  EXPECT_THAT(route_parameters(groups, small_model()), ElementsAre(2, 1, 0, 0));
}

TEST(Routing, RefusesAnUnclaimedParameter) {
  expect_refused({group(GroupType::matrix, {"*_proj.weight"}), group(GroupType::adamw, {"*embed*", "*bias"})},
                 {"model.norm.weight", "[8]", "match: [\"*\"]"});
  expect_refused({}, {"model.embed_tokens.weight"});
}

TEST(Routing, RefusesAPatternWithoutParameters) {
  expect_refused({group(GroupType::matrix, {"*_proj.weight", "*.experts.*"}), group(GroupType::adamw, {"*"})},
                 {"optimizer.groups.0.match", "\"*.experts.*\"", "matches no parameter"});
}

TEST(Routing, RefusesAGroupThatClaimsNothing) {
  expect_refused({group(GroupType::adamw, {"*"}), group(GroupType::matrix, {"*_proj.weight"})},
                 {"optimizer.groups.1 (muon)", "claims no parameter", "move it up"});
  expect_refused({group(GroupType::adamw, {"*"}), group(GroupType::adamw, {})}, {"optimizer.groups.1"});
}

TEST(Routing, RefusesAVectorInAMatrixGroup) {
  expect_refused(
      {group(GroupType::matrix, {"*q_proj*"}), group(GroupType::adamw, {"*"})},
      {"optimizer.groups.0 (muon)", "model.layers.0.self_attn.q_proj.bias", "[8]", "two dimensions"});
  for (const GroupType type : {GroupType::shampoo, GroupType::soap})
    expect_refused({group(type, {"*q_proj*"}), group(GroupType::adamw, {"*"})},
                   {"q_proj.bias", "two dimensions"});
}

}  // namespace
}  // namespace polar

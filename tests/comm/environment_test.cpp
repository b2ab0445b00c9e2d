// Launchers' variables: what they mean, and what is wrong with them.
#include "comm/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "errors.h"

namespace polar::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Values = std::map<std::string, std::string>;

ProcessGroup group_of(const Values& values) {
  return process_group_from([&](const char* name) -> const char* {
    const auto found = values.find(name);
    return found == values.end() ? nullptr : found->second.c_str();
  });
}

Values torchrun() {
  return {{"RANK", "5"},
          {"WORLD_SIZE", "8"},
          {"LOCAL_RANK", "1"},
          {"LOCAL_WORLD_SIZE", "4"},
          {"GROUP_RANK", "1"},
          {"MASTER_ADDR", "gpu01"},
          {"MASTER_PORT", "29501"},
          {"TORCHELASTIC_RUN_ID", "night"},
          {"TORCHELASTIC_RESTART_COUNT", "2"}};
}

TEST(Environment, NoVariablesAreOneProcess) {
  for (const Values& values : {Values{}, Values{{"MASTER_ADDR", "gpu01"}, {"MASTER_PORT", "29500"}},
                               Values{{"SLURM_NTASKS", "4"}}, Values{{"RANK", ""}}}) {
    const ProcessGroup group = group_of(values);
    EXPECT_EQ(group.rank, 0);
    EXPECT_EQ(group.world_size, 1);
    EXPECT_EQ(group.local_world_size, 1);
  }
}

TEST(Environment, Torchrun) {
  ProcessGroup group = group_of(torchrun());
  EXPECT_EQ(group.rank, 5);
  EXPECT_EQ(group.world_size, 8);
  EXPECT_EQ(group.local_rank, 1);
  EXPECT_EQ(group.local_world_size, 4);
  EXPECT_EQ(group.node, 1);
  EXPECT_EQ(group.master_addr, "gpu01");
  EXPECT_EQ(group.master_port, 29501);
  EXPECT_EQ(group.run_id, "night");
  EXPECT_EQ(group.restart_count, 2);
  EXPECT_FALSE(group.host_store);
  EXPECT_FALSE(group.port_is_held);

  Values values = torchrun();
  values["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  group = group_of(values);
  EXPECT_FALSE(group.host_store);
  EXPECT_TRUE(group.port_is_held);
  values["POLARTRAIN_STORE"] = "launcher";
  group = group_of(values);
  EXPECT_TRUE(group.host_store);
  EXPECT_FALSE(group.port_is_held);

  EXPECT_EQ(group_of({{"RANK", "0"}, {"WORLD_SIZE", "1"}}).world_size, 1);
}

TEST(Environment, TorchrunWinsOverSlurm) {
  Values values = torchrun();
  values["SLURM_PROCID"] = "0";
  values["SLURM_NTASKS"] = "2";
  EXPECT_EQ(group_of(values).rank, 5);
}

TEST(Environment, Slurm) {
  Values values{{"SLURM_PROCID", "3"},    {"SLURM_NTASKS", "4"},       {"SLURM_LOCALID", "1"},
                {"SLURM_NODEID", "1"},    {"SLURM_NNODES", "2"},       {"SLURM_NODELIST", "gpu[07-08]"},
                {"SLURM_JOB_ID", "1234"}, {"SLURM_RESTART_COUNT", "1"}};
  ProcessGroup group = group_of(values);
  EXPECT_EQ(group.rank, 3);
  EXPECT_EQ(group.world_size, 4);
  EXPECT_EQ(group.local_rank, 1);
  EXPECT_EQ(group.local_world_size, 2);
  EXPECT_EQ(group.node, 1);
  EXPECT_EQ(group.master_addr, "gpu07");
  EXPECT_EQ(group.master_port, 21234);
  EXPECT_EQ(group.run_id, "slurm-1234.0");
  EXPECT_EQ(group.restart_count, 1);
  values["MASTER_ADDR"] = "10.0.0.1";
  values["MASTER_PORT"] = "4000";
  group = group_of(values);
  EXPECT_EQ(group.master_addr, "10.0.0.1");
  EXPECT_EQ(group.master_port, 4000);
}

TEST(Environment, OpenMpi) {
  Values values{{"OMPI_COMM_WORLD_RANK", "1"},
                {"OMPI_COMM_WORLD_SIZE", "2"},
                {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  const ProcessGroup group = group_of(values);
  EXPECT_EQ(group.rank, 1);
  EXPECT_EQ(group.world_size, 2);
  EXPECT_EQ(group.master_addr, "127.0.0.1");
  EXPECT_EQ(group.master_port, 29500);
  values["OMPI_COMM_WORLD_SIZE"] = "4";
  EXPECT_THAT(message_of([&] { group_of(values); }), AllOf(HasSubstr("MASTER_ADDR"), HasSubstr("machines")));
}

TEST(Environment, FirstHost) {
  EXPECT_EQ(first_host("gpu[07-09,12],cpu3"), "gpu07");
  EXPECT_EQ(first_host("gpu[3,5]"), "gpu3");
  EXPECT_EQ(first_host("a1,b2"), "a1");
  EXPECT_EQ(first_host("host.domain.org"), "host.domain.org");
  EXPECT_EQ(first_host("rack[1-2]n[3-4]"), "rack1n3");
  EXPECT_EQ(first_host("login-node"), "login-node");
  EXPECT_THROW(first_host(""), Error);
  EXPECT_THROW(first_host("gpu[07"), Error);
}

TEST(Environment, WhatIsMissingOrContradictsIsNamed) {
  struct Case {
    std::string variable, value;  // empty: unset
    std::string message;
  };
  const std::vector<Case> cases{
      {"RANK", "", "RANK is not set, but WORLD_SIZE is"},
      {"WORLD_SIZE", "", "WORLD_SIZE is not set, but RANK is"},
      {"LOCAL_RANK", "", "LOCAL_RANK is not set"},
      {"LOCAL_WORLD_SIZE", "", "LOCAL_WORLD_SIZE is not set"},
      {"MASTER_ADDR", "", "MASTER_ADDR is not set"},
      {"MASTER_PORT", "", "MASTER_PORT is not set"},
      {"RANK", "x", "RANK: found 'x'"},
      {"RANK", "-1", "RANK: found '-1'"},
      {"RANK", "8", "RANK: found 8, expected less than WORLD_SIZE (8)"},
      {"RANK", "99999999999", "RANK: found '99999999999'"},
      {"WORLD_SIZE", "0", "WORLD_SIZE: found '0'"},
      {"LOCAL_RANK", "4", "LOCAL_RANK: found 4, expected less than LOCAL_WORLD_SIZE (4)"},
      {"LOCAL_WORLD_SIZE", "9", "LOCAL_WORLD_SIZE: found 9, expected at most WORLD_SIZE (8)"},
      {"MASTER_PORT", "0", "MASTER_PORT: found '0'"},
      {"MASTER_PORT", "70000", "MASTER_PORT: found '70000'"},
      {"MASTER_PORT", "29500x", "MASTER_PORT: found '29500x'"},
      {"TORCHELASTIC_RESTART_COUNT", "many", "TORCHELASTIC_RESTART_COUNT: found 'many'"},
  };
  for (const Case& c : cases) {
    Values values = torchrun();
    values[c.variable] = c.value;
    const Error error = error_of([&] { group_of(values); });
    EXPECT_THAT(error.what(), AllOf(HasSubstr(c.message), HasSubstr("expected")));
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
  }
  EXPECT_THAT(message_of([] { group_of({{"SLURM_PROCID", "0"}}); }), HasSubstr("SLURM_NTASKS is not set"));
  EXPECT_THAT(message_of([] {
                group_of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_LOCALID", "0"}});
              }),
              HasSubstr("MASTER_ADDR"));
}

}  // namespace
}  // namespace polar::test

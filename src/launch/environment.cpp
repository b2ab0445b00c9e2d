#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "base/error.h"
#include "launch/worker.h"

namespace polar::launch {
namespace {

// Cores that this process may use.
int available_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace

int default_threads(int processes) {
  return std::max(1, available_cores() / processes);
}

std::vector<std::string> worker_environment(const Options& options, const Assignment& assignment,
                                            int local_rank) {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const size_t equals = text.find('=', 1);
    if (equals != std::string::npos) variables[text.substr(0, equals)] = text.substr(equals + 1);
  }
  const std::string rank = std::to_string(assignment.first_rank + local_rank);
  const std::string world_size = std::to_string(assignment.world_size);
  const std::map<std::string, std::string> own{
      {"RANK", rank},
      {"LOCAL_RANK", std::to_string(local_rank)},
      {"WORLD_SIZE", world_size},
      {"LOCAL_WORLD_SIZE", std::to_string(options.processes)},
      {"GROUP_RANK", std::to_string(assignment.node)},
      {"GROUP_WORLD_SIZE", std::to_string(assignment.nodes)},
      {"ROLE_NAME", "default"},
      {"ROLE_RANK", rank},
      {"ROLE_WORLD_SIZE", world_size},
      {"MASTER_ADDR", assignment.master_addr},
      {"MASTER_PORT", std::to_string(assignment.master_port)},
      {"TORCHELASTIC_RESTART_COUNT", std::to_string(assignment.attempt)},
      {"TORCHELASTIC_MAX_RESTARTS", std::to_string(options.max_restarts)},
      {"TORCHELASTIC_RUN_ID", assignment.run_id},
      {"TORCHELASTIC_USE_AGENT_STORE", "False"},  // rank 0 opens the store at MASTER_PORT
  };
  for (const auto& [name, value] : own) variables[name] = value;
  if (options.processes > 1)
    variables.emplace("OMP_NUM_THREADS", std::to_string(default_threads(options.processes)));
  std::vector<std::string> result;
  for (const auto& [name, value] : variables) {
    result.push_back(name + "=");
    result.back() += value;
  }
  return result;
}

}  // namespace polar::launch

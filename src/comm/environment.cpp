#include "comm/environment.h"

#include <charconv>
#include <cstdlib>
#include <limits>
#include <optional>

#include "base/error.h"

namespace polar {
namespace {

constexpr uint16_t kDefaultPort = 29500;  // torchrun's

// Variables as numbers, with errors that say which launcher's contract they break.
class Environment {
 public:
  Environment(const Variables& variables, std::string launcher)
      : variables_(variables), launcher_(std::move(launcher)) {}

  std::optional<std::string> text(const char* name) const {
    const char* value = variables_(name);
    if (value == nullptr || *value == '\0') return std::nullopt;
    return value;
  }
  std::optional<int> number(const char* name, int least, int most, const char* what) const {
    const std::optional<std::string> value = text(name);
    if (!value) return std::nullopt;
    int result = 0;
    const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), result);
    if (error != std::errc() || end != value->data() + value->size() || result < least || result > most)
      fail_usage("environment variable {}: found '{}', expected {}, a whole number from {} to {}{}", name,
                 *value, what, least, most, hint());
    return result;
  }
  int required(const char* name, int least, int most, const char* what, const char* with) const {
    const std::optional<int> value = number(name, least, most, what);
    if (!value)
      fail_usage("environment variable {} is not set, but {} is; expected {}{}", name, with, what, hint());
    return *value;
  }
  std::string required_text(const char* name, const char* with, const char* what) const {
    const std::optional<std::string> value = text(name);
    if (!value)
      fail_usage("environment variable {} is not set, but {} is; expected {}{}", name, with, what, hint());
    return *value;
  }
  // a < b, else an error that names both.
  void below(const char* a_name, int a, const char* b_name, int b) const {
    if (a >= b)
      fail_usage("environment variable {}: found {}, expected less than {} ({}){}", a_name, a, b_name, b,
                 hint());
  }
  void at_most(const char* a_name, int a, const char* b_name, int b) const {
    if (a > b)
      fail_usage("environment variable {}: found {}, expected at most {} ({}){}", a_name, a, b_name, b,
                 hint());
  }

 private:
  std::string hint() const {
    return fmt::format("; {} sets these variables. For one process unset them", launcher_);
  }
  const Variables& variables_;
  std::string launcher_;
};

constexpr int kMost = 1 << 20;  // ranks

std::optional<uint16_t> port_of(const Environment& environment) {
  const std::optional<int> port = environment.number("MASTER_PORT", 1, 65535, "the port of rank 0's store");
  return port ? std::optional(static_cast<uint16_t>(*port)) : std::nullopt;
}

bool is_true(const std::optional<std::string>& value) {
  return value && (*value == "True" || *value == "true" || *value == "1");
}

ProcessGroup from_torchrun(const Variables& variables) {
  const Environment environment(variables, "torchrun or `polartrain launch`");
  ProcessGroup group;
  group.source = "RANK and WORLD_SIZE";
  group.rank = environment.required("RANK", 0, kMost, "this process's rank", "WORLD_SIZE");
  group.world_size = environment.required("WORLD_SIZE", 1, kMost, "the number of processes", "RANK");
  environment.below("RANK", group.rank, "WORLD_SIZE", group.world_size);
  group.restart_count =
      environment.number("TORCHELASTIC_RESTART_COUNT", 0, kMost, "the number of restarts").value_or(0);
  group.run_id = environment.text("TORCHELASTIC_RUN_ID").value_or(group.run_id);
  if (group.world_size == 1) return group;
  group.local_rank = environment.required("LOCAL_RANK", 0, kMost, "the rank on this machine", "RANK");
  group.local_world_size =
      environment.required("LOCAL_WORLD_SIZE", 1, kMost, "the number of processes on this machine", "RANK");
  environment.below("LOCAL_RANK", group.local_rank, "LOCAL_WORLD_SIZE", group.local_world_size);
  environment.at_most("LOCAL_WORLD_SIZE", group.local_world_size, "WORLD_SIZE", group.world_size);
  environment.at_most("LOCAL_RANK", group.local_rank, "RANK", group.rank);
  group.node = environment.number("GROUP_RANK", 0, kMost, "this machine's number")
                   .value_or(group.rank / group.local_world_size);
  group.master_addr = environment.required_text("MASTER_ADDR", "RANK", "the host of rank 0");
  environment.required_text("MASTER_PORT", "RANK", "the port of rank 0's store");
  group.master_port = *port_of(environment);
  if (is_true(environment.text("TORCHELASTIC_USE_AGENT_STORE"))) {
    group.host_store = environment.text("POLARTRAIN_STORE") == "launcher";
    group.port_is_held = !group.host_store;
  }
  return group;
}

ProcessGroup from_slurm(const Variables& variables) {
  const Environment environment(variables, "srun");
  ProcessGroup group;
  group.source = "Slurm's variables";
  group.rank = environment.required("SLURM_PROCID", 0, kMost, "this process's rank", "SLURM_NTASKS");
  group.world_size =
      environment.required("SLURM_NTASKS", 1, kMost, "the number of processes", "SLURM_PROCID");
  // Of this step, where it has fewer processes than the job.
  group.world_size = environment.number("SLURM_STEP_NUM_TASKS", 1, kMost, "the number of processes")
                         .value_or(group.world_size);
  environment.below("SLURM_PROCID", group.rank, "SLURM_NTASKS", group.world_size);
  const int job =
      environment.number("SLURM_JOB_ID", 0, std::numeric_limits<int>::max(), "the job's number").value_or(0);
  const int step =
      environment.number("SLURM_STEP_ID", 0, std::numeric_limits<int>::max(), "the step's number")
          .value_or(0);
  group.run_id = fmt::format("slurm-{}.{}", job, step);
  group.restart_count =
      environment.number("SLURM_RESTART_COUNT", 0, kMost, "the number of restarts").value_or(0);
  if (group.world_size == 1) return group;
  group.local_rank =
      environment.required("SLURM_LOCALID", 0, kMost, "the rank on this machine", "SLURM_PROCID");
  environment.at_most("SLURM_LOCALID", group.local_rank, "SLURM_PROCID", group.rank);
  group.node = environment.number("SLURM_NODEID", 0, kMost, "this machine's number").value_or(0);
  const int nodes = environment.number("SLURM_NNODES", 1, kMost, "the number of machines").value_or(1);
  group.local_world_size =
      environment.number("SLURM_NTASKS_PER_NODE", 1, kMost, "the number of processes on a machine")
          .value_or((group.world_size + nodes - 1) / nodes);
  group.local_world_size = std::max(group.local_world_size, group.local_rank + 1);
  std::optional<std::string> hosts = environment.text("SLURM_STEP_NODELIST");
  if (!hosts) hosts = environment.text("SLURM_NODELIST");
  if (!hosts) hosts = environment.text("SLURM_JOB_NODELIST");
  std::optional<std::string> master = environment.text("MASTER_ADDR");
  if (!master && hosts) master = first_host(*hosts);
  if (!master)
    fail_usage(
        "neither MASTER_ADDR nor SLURM_NODELIST is set, but SLURM_PROCID is; expected the host of rank "
        "0 in MASTER_ADDR, or srun's own variables");
  group.master_addr = *master;
  // Jobs on one machine meet at different ports; below the range from which the system takes ports itself.
  group.master_port = port_of(environment).value_or(static_cast<uint16_t>(20000 + (job + 97 * step) % 10000));
  return group;
}

ProcessGroup from_open_mpi(const Variables& variables) {
  const Environment environment(variables, "mpirun");
  ProcessGroup group;
  group.source = "Open MPI's variables";
  const char *rank = "OMPI_COMM_WORLD_RANK", *size = "OMPI_COMM_WORLD_SIZE";
  const char *local_rank = "OMPI_COMM_WORLD_LOCAL_RANK", *local_size = "OMPI_COMM_WORLD_LOCAL_SIZE";
  group.rank = environment.required(rank, 0, kMost, "this process's rank", size);
  group.world_size = environment.required(size, 1, kMost, "the number of processes", rank);
  environment.below(rank, group.rank, size, group.world_size);
  if (const auto job = environment.text("PMIX_NAMESPACE")) group.run_id = *job;
  if (group.world_size == 1) return group;
  group.local_rank = environment.required(local_rank, 0, kMost, "the rank on this machine", rank);
  group.local_world_size =
      environment.required(local_size, 1, kMost, "the number of processes on this machine", rank);
  environment.below(local_rank, group.local_rank, local_size, group.local_world_size);
  environment.at_most(local_size, group.local_world_size, size, group.world_size);
  group.node = (group.rank - group.local_rank) / group.local_world_size;
  if (group.local_world_size == group.world_size)
    group.master_addr = environment.text("MASTER_ADDR").value_or("127.0.0.1");
  else
    group.master_addr = environment.required_text(
        "MASTER_ADDR", rank, "the host of rank 0, since the processes are on several machines (mpirun -x)");
  group.master_port = port_of(environment).value_or(kDefaultPort);
  return group;
}

}  // namespace

std::string first_host(const std::string& node_list) {
  std::string host;
  bool in_brackets = false, first = true;  // first: still in the first entry of these brackets
  for (const char c : node_list) {
    if (c == '[') {
      in_brackets = first = true;
    } else if (c == ']') {
      in_brackets = false;
    } else if (in_brackets) {
      first = first && c != '-' && c != ',';
      if (first) host += c;
    } else if (c == ',') {
      break;
    } else {
      host += c;
    }
  }
  if (host.empty() || in_brackets)
    fail_usage("Slurm's node list '{}' cannot be read; set MASTER_ADDR to the host of rank 0", node_list);
  return host;
}

ProcessGroup process_group_from(const Variables& variables) {
  const auto set = [&](const char* name) {
    const char* value = variables(name);
    return value != nullptr && *value != '\0';
  };
  if (set("RANK") || set("WORLD_SIZE")) return from_torchrun(variables);
  // SLURM_NTASKS alone is a job's shell, in which nothing was started by srun.
  if (set("SLURM_PROCID")) return from_slurm(variables);
  if (set("OMPI_COMM_WORLD_RANK") || set("OMPI_COMM_WORLD_SIZE")) return from_open_mpi(variables);
  return {};
}

ProcessGroup process_group_from_environment() {
  return process_group_from([](const char* name) -> const char* { return std::getenv(name); });
}

}  // namespace polar

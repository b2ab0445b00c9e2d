// Which process of a run this one is: from the variables that torchrun, `polartrain launch`, srun and mpirun
// set.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace polar {

// The defaults are those of a run of one process.
struct ProcessGroup {
  int rank = 0, world_size = 1;
  int local_rank = 0, local_world_size = 1;  // among those on this machine
  int node = 0;                              // the machine's place among the machines
  std::string master_addr;                   // where rank 0 is; empty with one process
  uint16_t master_port = 0;
  std::string run_id = "polartrain";
  int restart_count = 0;      // how often the launcher has started the run again
  bool host_store = false;    // the launcher holds the run's store at master_port; else rank 0 does
  bool port_is_held = false;  // torchrun itself uses master_port: rank 0's store is at one of the next ports
  std::string source = "no variables of a launcher: one process";  // for the log: where all this is from
};

// The value of an environment variable, or null.
using Variables = std::function<const char*(const char* name)>;

// In this order: RANK and WORLD_SIZE (with LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT, and
// optionally GROUP_RANK, TORCHELASTIC_RUN_ID, TORCHELASTIC_RESTART_COUNT, TORCHELASTIC_USE_AGENT_STORE:
// True means that torchrun holds MASTER_PORT, or, with POLARTRAIN_STORE=launcher, that a store of ours is
// there); SLURM_PROCID and SLURM_NTASKS (MASTER_ADDR: the first host of the node list; MASTER_PORT: from the
// job's number); OMPI_COMM_WORLD_RANK and _SIZE (MASTER_ADDR: this machine if all processes are on it;
// MASTER_PORT: 29500); none: one process.
// Errors (exit code 2): a variable that is missing, no number, or contradicts another.
ProcessGroup process_group_from_environment();
ProcessGroup process_group_from(const Variables& variables);

// The first host of Slurm's short form: "gpu[07-09,12],cpu3" gives "gpu07".
std::string first_host(const std::string& node_list);

}  // namespace polar

// polartrain launch
#include "launch/launch.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "command.h"
#include "launch/worker.h"
#include "ops/ops.h"

namespace polar {
namespace {

constexpr const char* kFooter =
    "What follows the flags is started once a process: a subcommand of polartrain with its arguments, or, "
    "after\n"
    "`--`, any program. Without flags: one node, a process for every GPU, or a single one.\n\n"
    "Workers get torchrun's environment (RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, GROUP_RANK, "
    "MASTER_ADDR,\n"
    "MASTER_PORT, TORCHELASTIC_RESTART_COUNT, ...). If several share a node and OMP_NUM_THREADS is not set, "
    "it is\n"
    "the node's cores divided among them. If one fails, the others get SIGTERM and after the grace period "
    "SIGKILL;\n"
    "then all start again, up to --max-restarts times, and `train` goes on from its last good checkpoint. "
    "Its exit\n"
    "codes 2, 3 and 4 (see the README) are not followed by a restart.\n"
    "SIGTERM, SIGINT, SIGHUP and SIGQUIT are passed on to the workers. No worker outlives the launcher.\n\n"
    "Exit code: 0; that of the worker that failed first, or 128 + the signal that ended it; 3 if a signal to "
    "the\n"
    "launcher made the workers save and stop.\n\n"
    "Example: polartrain launch --nproc-per-node 2 --max-restarts 3 train configs/demo.yaml run.dir=runs/two";

// The texts of flags that are read only when all are there.
struct Texts {
  std::string nodes = "1", processes = "auto", redirects = "0", tee = "0", filter, log_dir;
  std::string signals = "SIGTERM,SIGINT,SIGHUP,SIGQUIT", backend, rendezvous;
};

// Counted in a process of its own: the launcher itself has no use for a CUDA driver in its memory.
int count_gpus_apart() {
  const pid_t child = fork();
  if (child < 0) fail("cannot fork");
  if (child == 0) _exit(std::min(count_gpus(), 255));
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

int process_count(const std::string& text) {
  if (text == "cpu") return static_cast<int>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
  if (text == "gpu" || text == "auto") {
    const int gpus = count_gpus_apart();
    if (gpus == 0 && text == "gpu")
      fail_usage(
          "--nproc-per-node gpu: this node has no GPU that can be used; `polartrain --version` says why");
    return std::max(1, gpus);
  }
  const bool digits =
      !text.empty() && text.size() <= 5 && text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || std::stoi(text) < 1)
    fail_usage("--nproc-per-node: found '{}', expected a number from 1 on, gpu, cpu or auto", text);
  return std::stoi(text);
}

// Where in `words` the flags of launch end: at "--" or the first word that is neither a flag nor a flag's
// value.
size_t end_of_flags(const CLI::App& command, const std::vector<std::string>& words) {
  size_t i = 1;
  for (; i < words.size() && words[i] != "--" && words[i].starts_with('-'); ++i) {
    const std::string& word = words[i];
    const std::string name = word.starts_with("--") ? word.substr(0, word.find('=')) : word.substr(0, 2);
    const CLI::Option* option = command.get_option_no_throw(name);
    if (option == nullptr)
      fail_usage("launch: there is no flag '{}'; `polartrain launch --help` lists them", name);
    if (option->get_items_expected_max() > 0 && word == name) ++i;  // its value is the next word
  }
  return std::min(i, words.size());
}

// Takes the words that are to be started off the end of `words`.
void take_command(const CLI::App& app, const CLI::App& command, std::vector<std::string>& words,
                  launch::Options& options) {
  if (words.empty() || words[0] != "launch") return;
  const size_t end = end_of_flags(command, words);
  const bool any_program = end < words.size() && words[end] == "--";
  options.own_binary = !any_program;
  options.command.assign(words.begin() + static_cast<long>(end) + (any_program ? 1 : 0), words.end());
  words.resize(end);
  if (options.command.empty() || any_program) return;
  const std::string name = options.command[0];
  const std::vector<const CLI::App*> commands = app.get_subcommands(nullptr);
  const bool known = std::any_of(commands.begin(), commands.end(),
                                 [&](const CLI::App* other) { return other->get_name() == name; });
  if (name == "launch" || !known)
    fail_usage(
        "launch: '{0}' is no subcommand that can be started, as `train` is; for another program write\n"
        "polartrain launch [FLAGS] -- {0} ...",
        name);
  options.command.insert(options.command.begin(), launch::own_program());
}

void add_nodes(CLI::App& command, launch::Options& options, Texts& texts) {
  command.add_option("--nnodes", texts.nodes, "Nodes: N, or MIN:MAX")
      ->type_name("N|MIN:MAX")
      ->default_str("1");
  command
      .add_option("--nproc-per-node,--nproc_per_node", texts.processes,
                  "Processes on this node; auto: one a GPU, or 1 without GPUs")
      ->type_name("N|gpu|cpu|auto")
      ->default_str("auto");
  command.add_option("--node-rank,--node_rank", options.node_rank, "Which of the nodes this is, from 0");
  command.add_option("--master-addr,--master_addr", options.master_addr, "The host of node 0");
  command.add_option("--master-port,--master_port", options.master_port, "A port there (29500)");
  command.add_flag("--standalone", options.standalone,
                   "One node, a free port, a random run id: what is done without flags, too");
  command.add_option("--rdzv-endpoint,--rdzv_endpoint", options.rdzv_endpoint,
                     "HOST:PORT where the launchers of all nodes meet; HOST is one of them");
  command.add_option("--rdzv-id,--rdzv_id", options.rdzv_id, "The run's id, the same on all nodes");
  command.add_option("--rdzv-backend,--rdzv_backend", texts.backend, "static or c10d, as torchrun has them")
      ->check(CLI::IsMember({"static", "c10d"}));
  command.add_option(
      "--rdzv-conf,--rdzv_conf", texts.rendezvous,
      "KEY=SECONDS,...: join_timeout (600) until enough nodes have come, last_call_timeout (30)\n"
      "for more than MIN, keep_alive_timeout (15) until a silent node counts as lost");
  command.add_option("--local-addr,--local_addr", options.local_addr,
                     "What the other nodes reach this one by, if it is not found out rightly");
}

void add_output(CLI::App& command, Texts& texts) {
  command.add_option("--log-dir,--log_dir", texts.log_dir,
                     "Files DIR/attempt_N/RANK/stdout.log and stderr.log; alone: as with --tee 3");
  command.add_option("-r,--redirects", texts.redirects,
                     "Streams that go to files only: 0, 1 (stdout), 2 (stderr), 3, or 0:3,1:2 by local rank");
  command.add_option("-t,--tee", texts.tee, "Streams that go to files and to the console, in the same form");
  command.add_option("--local-ranks-filter,--local_ranks_filter", texts.filter,
                     "Show the output of these local ranks only, e.g. 0,1");
}

void add_ending(CLI::App& command, launch::Options& options, Texts& texts) {
  command.add_option("--max-restarts,--max_restarts", options.max_restarts, "Restarts after failures (0)");
  command.add_option("--monitor-interval,--monitor_interval", options.monitor_interval,
                     "Seconds between two looks at what the other nodes say (0.1)");
  command.add_option("--grace-period,--grace_period", options.grace_period,
                     "Seconds that workers get to end in before SIGKILL (30)");
  command.add_option("--signals-to-handle,--signals_to_handle", texts.signals,
                     "Signals that are passed on and end the run (SIGTERM,SIGINT,SIGHUP,SIGQUIT)");
  command.add_flag("--no-python,--no_python")
      ->description("Taken for torchrun's sake: programs are started as they are");
}

void read_texts(const Texts& texts, launch::Options& options) {
  options.nodes = launch::parse_nodes(texts.nodes);
  if (!texts.rendezvous.empty()) launch::parse_rendezvous(texts.rendezvous, options);
  options.processes = process_count(texts.processes);
  options.redirects = launch::parse_streams("--redirects", texts.redirects);
  options.tee = launch::parse_streams("--tee", texts.tee);
  if (!texts.filter.empty()) options.shown_ranks = launch::parse_ranks("--local-ranks-filter", texts.filter);
  options.log_dir = texts.log_dir;
  options.signals = launch::parse_signals("--signals-to-handle", texts.signals);
  if (options.command.empty())
    fail_usage(
        "launch: found nothing to start; expected a subcommand such as `train CONFIG`, or -- PROGRAM ...");
}

}  // namespace

void add_launch(CLI::App& app, Action& action, std::vector<std::string>& words) {
  struct Shared {
    Texts texts;
    launch::Options options;
  };
  auto shared = std::make_shared<Shared>();
  CLI::App* command = app.add_subcommand(
      "launch", "Start a subcommand, or any program, as several processes, as torchrun does");
  add_nodes(*command, shared->options, shared->texts);
  add_output(*command, shared->texts);
  add_ending(*command, shared->options, shared->texts);
  for (CLI::Option* option : command->get_options())
    if (option->get_items_expected_max() > 0) option->take_last();  // as torchrun does
  command->footer(kFooter);
  take_command(app, *command, words, shared->options);
  command->callback([shared, &action] {
    action = [shared] {
      read_texts(shared->texts, shared->options);
      return static_cast<ExitCode>(launch::run(shared->options));
    };
  });
}

}  // namespace polar

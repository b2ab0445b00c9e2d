// Training under other launchers than our own, and under the examples of configs/cluster and docker.
#include <yaml-cpp/yaml.h>

#include <sstream>

#include "comm/socket.h"
#include "launch/machines.h"
#include "launch/worker.h"
#include "training.h"

namespace polar::test {
namespace {

using launch::Machines;
using testing::AllOf;
using testing::HasSubstr;

const std::string kSource = POLAR_SOURCE_DIR;

class Starters : public ClusterTraining {
 protected:
  std::string wait_in_step_7() const { return "wait=" + path("go").string() + " 1 forward 7"; }
  void go() const { put(path("go"), ""); }
};

class Torchrun : public Starters {
 protected:
  void SetUp() override {
    if (run_process({"/bin/sh", "-c", "command -v torchrun"}).code != 0)
      GTEST_SKIP() << "no torchrun in PATH";
  }
  std::unique_ptr<Launcher> torchrun(Words flags, const std::string& fault = "") const {
    // (Without a choice of streams torchrun 1.13 fails under Python 3.11.)
    flags.insert(flags.end(), {"--tee", "1", "--redirects", "1", "--log_dir", path("logs"), "--no_python",
                               fault.empty() ? POLAR_BINARY : POLAR_FAULTY_BINARY});
    return std::make_unique<Launcher>(launching(flags, "run"), variables(fault), "", Words{},
                                      Words{"torchrun"});
  }
};

TEST_F(Torchrun, RestartsAKilledWorker) {
  run_undisturbed(2);
  const auto all =
      torchrun({"--standalone", "--nproc_per_node", "2", "--max_restarts", "1"}, "kill 1 backward 7");
  expect_end(*all, 0);
  EXPECT_THAT(all->output(), AllOf(HasSubstr("fault: kill at backward of step 7"),
                                   HasSubstr("continuing from " + checkpoint("run", 4) + "\n")));
  expect_the_undisturbed_result("run");
}

TEST_F(Torchrun, SavesOnSigterm) {
  run_undisturbed(2);
  const Words flags{"--nnodes", "1", "--nproc_per_node", "2", "--master_port", std::to_string(free_port())};
  const auto first = torchrun(flags, wait_in_step_7());
  ASSERT_TRUE(first->says("fault: wait", 60)) << first->output();
  first->send(SIGTERM);
  // It tells nobody that it has passed the signal on.
  ASSERT_TRUE(eventually([&] { return first->output().find("SIGTERM") != std::string::npos; }, 20))
      << first->output();
  go();
  EXPECT_NE(first->wait(), 0);
  EXPECT_TRUE(first->all_gone()) << first->output();
  EXPECT_EQ(checkpoints("run").back(), 7) << first->output();
  const auto second = torchrun(flags);
  expect_end(*second, 0);
  EXPECT_THAT(second->output(), HasSubstr("continuing from " + checkpoint("run", 7) + "\n"));
  expect_the_undisturbed_result("run");
}

// srun as the job script sees it: tasks with its variables, and the first that ends with another code than 0
// makes it end the others (--kill-on-bad-exit).
constexpr const char* kSrun = R"(#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
tasks=()
for ((i = 0; i < SLURM_NTASKS; ++i)); do
  SLURM_PROCID=$i SLURM_STEP_ID=0 SLURM_LOCALID=$((i % 2)) SLURM_NODEID=$((i / 2)) "$@" &
  tasks+=($!)
done
code=0
while ((${#tasks[@]} > 0)); do
  sleep 0.05
  left=() failed=0
  for task in "${tasks[@]}"; do
    if kill -0 "$task" 2>/dev/null; then left+=("$task"); continue; fi
    wait "$task"
    status=$?
    ((status == 0 || code != 0)) || { code=$status; failed=1; }
  done
  tasks=("${left[@]}")
  ((failed == 0)) || kill -TERM "${tasks[@]}" 2>/dev/null
done
exit $code
)";

class Slurm : public Starters {
 protected:
  Slurm() {
    put(path("bin/srun"), kSrun);
    std::filesystem::permissions(path("bin/srun"), std::filesystem::perms::owner_all);
    // Its port is the job's number modulo 10000, from 20000 on.
    for (;; ++job_) try {
        listen_on(static_cast<uint16_t>(20000 + job_ % 10000));
        break;
      } catch (const Error&) {
      }
  }
  std::unique_ptr<Launcher> sbatch(const std::string& fault = "") const {
    Words all = variables(fault);
    const Words slurm{"POLARTRAIN=" + std::string(fault.empty() ? POLAR_BINARY : POLAR_FAULTY_BINARY),
                      "PATH=" + path("bin").string() + ":/usr/local/bin:/usr/bin:/bin",
                      "SLURM_JOB_ID=" + std::to_string(job_),
                      "SLURM_NTASKS=4",
                      "SLURM_NNODES=2",
                      "SLURM_NTASKS_PER_NODE=2",
                      "SLURM_CPUS_PER_TASK=1",
                      "SLURM_JOB_NODELIST=localhost"};
    all.insert(all.end(), slurm.begin(), slurm.end());
    Words arguments = training("run");
    arguments.erase(arguments.begin());  // the script says `train` itself
    return std::make_unique<Launcher>(
        arguments, all, "", Words{},
        Words{"/usr/bin/env", "bash", kSource + "/configs/cluster/slurm.sbatch"});
  }
  int job_ = static_cast<int>(getpid() % 10000);
};

TEST_F(Slurm, TheJobScriptTrains) {
  run_undisturbed(4);
  const auto job = sbatch();
  expect_end(*job, 0);
  expect_the_undisturbed_result("run");
}

// The signal before the end of the time limit. Rank 0, which puts the checkpoint in place, is the last to be
// ready: if the others ended before, srun would end it, too.
TEST_F(Slurm, TheJobSavesAndIsSubmittedAgain) {
  run_undisturbed(4);
  const auto job = sbatch(wait_in_step_7() + ";wait=" + path("go-on").string() + " 0 publish 7");
  ASSERT_TRUE(job->says("forward of step 7")) << job->output();
  for (const char* rank : {"0", "1", "2", "3"}) {
    const std::vector<pid_t> tasks = job->processes(std::string("SLURM_PROCID=") + rank);
    ASSERT_EQ(tasks.size(), 1u);
    kill(tasks[0], SIGTERM);
  }
  go();
  ASSERT_TRUE(job->says("publish of step 7")) << job->output();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  put(path("go-on"), "");
  expect_end(*job, 3);
  EXPECT_EQ(checkpoints("run").back(), 7) << job->output();
  const auto again = sbatch();
  expect_end(*again, 0);
  EXPECT_THAT(again->output(), HasSubstr("continuing from " + checkpoint("run", 7) + "\n"));
  expect_the_undisturbed_result("run");
}

TEST_F(Slurm, AFailedTaskEndsTheJob) {
  run_undisturbed(4);
  const auto job = sbatch("kill 2 reduce 7");
  EXPECT_NE(job->wait(), 0) << job->output();
  EXPECT_TRUE(job->all_gone(0)) << job->output();
  EXPECT_EQ(checkpoints("run"), (std::vector<int64_t>{2, 4}));
  const auto again = sbatch();
  expect_end(*again, 0);
  expect_the_undisturbed_result("run");
}

TEST_F(Starters, TheScriptForTwoNodes) {
  run_undisturbed(2);
  const std::string port = "MASTER_PORT=" + std::to_string(free_port());
  const auto node = [&](const std::string& rank) {
    Words arguments = training("run");
    arguments.erase(arguments.begin());
    arguments.insert(arguments.begin(), {rank, "127.0.0.1"});
    return std::make_unique<Launcher>(
        arguments, Words{"OMP_NUM_THREADS=1", "CUDA_VISIBLE_DEVICES=", port, "POLARTRAIN=" POLAR_BINARY}, "",
        Words{}, Words{kSource + "/configs/cluster/two-nodes.sh"});
  };
  const auto first = node("0"), second = node("1");
  expect_end(*first, 0);
  expect_end(*second, 0);
  EXPECT_THAT(first->output(), HasSubstr("node 0 of 2: ranks 0 to 0 of 2"));
  expect_the_undisturbed_result("run");
}

// What docker/compose.yaml starts, on two machines in place of its containers.
TEST_F(Starters, TheCommandsOfCompose) {
  const Machines machines;
  if (!machines.usable()) GTEST_SKIP() << "no network namespaces here (they need root and iproute2)";
  run_undisturbed(4);
  const YAML::Node services = YAML::LoadFile(kSource + "/docker/compose.yaml")["services"];
  std::unique_ptr<Launcher> nodes[2];
  for (int i = 0; i < 2; ++i) {
    const YAML::Node service = services["node" + std::to_string(i)];
    EXPECT_EQ(service["hostname"].as<std::string>(), "node" + std::to_string(i));
    Words command;
    std::istringstream text(service["command"].as<std::string>());
    for (std::string word; text >> word;) command.push_back(word == "node0" ? "10.77.0.1" : word);
    ASSERT_EQ(command.at(0), "launch");
    command.erase(command.begin());
    const auto config = std::find(command.begin(), command.end(), "configs/demo.yaml");
    ASSERT_NE(config, command.end());
    // As it stands there it can be shared by four ranks.
    Words plan{POLAR_BINARY, "plan", kSource + "/configs/demo.yaml", "--world-size", "4", "run.device=cpu"};
    plan.insert(plan.end(), config + 1, command.end());
    const Finished planned = run_process(plan);
    EXPECT_EQ(planned.code, 0) << planned.output;
    *config = path("config.yaml").string();
    const Words own = training("run");
    command.insert(command.end(), own.begin() + 2, own.end());  // over what is set for the demo
    nodes[i] = machines.launch(i, command, variables(""));
  }
  for (const auto& node : nodes) expect_end(*node, 0);
  expect_the_undisturbed_result("run");
}

}  // namespace
}  // namespace polar::test

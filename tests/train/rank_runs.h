// Runs of several processes, started as torchrun starts them, and what they come to.
#pragma once

#include <gmock/gmock.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comm/socket.h"
#include "process.h"
#include "train/fixture.h"

namespace polar::test {

using Overrides = std::vector<std::string>;

class Ranks : public TinyRun {
 protected:
  // The processes of one run, started as torchrun starts them.
  class Group {
   public:
    Group(int ranks, const std::vector<std::string>& command, const std::map<int, std::string>& extra = {}) {
      const std::string port = std::to_string(free_port());
      for (int rank = 0; rank < ranks; ++rank) {
        std::vector<std::string> words{"/usr/bin/env",
                                       "RANK=" + std::to_string(rank),
                                       "LOCAL_RANK=" + std::to_string(rank),
                                       "WORLD_SIZE=" + std::to_string(ranks),
                                       "LOCAL_WORLD_SIZE=" + std::to_string(ranks),
                                       "GROUP_RANK=0",
                                       "MASTER_ADDR=127.0.0.1",
                                       "MASTER_PORT=" + port,
                                       "OMP_NUM_THREADS=1"};
        words.insert(words.end(), command.begin(), command.end());
        if (extra.contains(rank)) words.push_back(extra.at(rank));
        processes_.push_back(std::make_unique<Process>(words));
      }
    }
    Process& operator[](size_t rank) { return *processes_[rank]; }
    size_t size() const { return processes_.size(); }
    void expect_success() {
      for (size_t rank = 0; rank < size(); ++rank)
        EXPECT_EQ((*this)[rank].wait(), 0) << "rank " << rank << ":\n" << (*this)[rank].output();
    }

   private:
    std::vector<std::unique_ptr<Process>> processes_;
  };

  std::vector<std::string> command(const std::string& run, const Overrides& overrides) const {
    std::vector<std::string> words{POLAR_BINARY,
                                   "train",
                                   path("config.yaml").string(),
                                   "run.dir=" + path(run).string(),
                                   "run.device=cpu",
                                   "batch.global_tokens=384",  // 12 sequences
                                   "optimizer.clip_norm=0.5",
                                   "distributed.timeout_seconds=30"};
    words.insert(words.end(), overrides.begin(), overrides.end());
    return words;
  }
  void train(int ranks, const std::string& run, const Overrides& overrides) {
    Group(ranks, command(run, overrides)).expect_success();
  }

  using Weights = std::map<std::string, std::vector<float>>;
  Weights weights(const std::string& run, int64_t step) const {
    Weights all;
    const TensorSource source(checkpoint_dir(path(run), step));
    for (const std::string& name : source.names()) {
      const Shape shape = source.info(name).shape;
      std::vector<float>& values = all[name];
      values.resize(static_cast<size_t>(shape.count()));
      source.read(name, {values.data(), DType::f32, shape});
    }
    return all;
  }
  // The relative difference ||a - b|| / ||b|| of the parameter that differs most.
  static double difference(const Weights& got, const Weights& want) {
    EXPECT_EQ(got.size(), want.size());
    double worst = 0.0;
    for (const auto& [name, values] : want) {
      const std::vector<float>& other = got.at(name);
      double size = 0.0, apart = 0.0;
      for (size_t i = 0; i < values.size(); ++i) {
        const auto a = static_cast<double>(other[i]), b = static_cast<double>(values[i]);
        size += b * b;
        apart += (a - b) * (a - b);
      }
      EXPECT_TRUE(std::isfinite(apart)) << name;
      worst = std::max(worst, std::sqrt(apart / size));
    }
    return worst;
  }
  // The process with this rank that trains in `run`; 0: none.
  static pid_t worker_of(const std::string& run, int rank) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string name = entry.path().filename().string();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      const auto content = [&](const char* file) {
        std::ifstream in(entry.path() / file, std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(in), {});
      };
      const std::string variable = std::string(1, '\0') + "RANK=" + std::to_string(rank) + '\0';
      if (content("cmdline").find("run.dir=" + run) != std::string::npos &&
          content("environ").find(variable) != std::string::npos)
        return std::stoi(name);
    }
    return 0;
  }
  std::vector<double> column_of(const std::string& run, const std::string& name) const {
    return read_metrics(path(run) / "metrics.jsonl").column(name);
  }
  std::vector<double> losses(const std::string& run) const { return column_of(run, "loss"); }
};

struct RanksCase {
  const char* name;
  Overrides overrides;
};
inline void PrintTo(const RanksCase& c, std::ostream* out) {
  *out << c.name;
}

}  // namespace polar::test

#include "train/ranks.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "base/error.h"

namespace polar {
namespace {

using nlohmann::json;

// The step and directory that rank 0 continues from, or its error.
json opened_by_first(const std::optional<FoundCheckpoint>& found) {
  if (!found) return json{{"step", -1}};
  return json{{"step", found->step}, {"dir", found->dir.string()}};
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

// The first line that differs, as both have it.
std::string first_difference(const std::string& first, const std::string& other) {
  const std::vector<std::string> a = lines_of(first), b = lines_of(other);
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    const std::string x = i < a.size() ? a[i] : "(nothing)", y = i < b.size() ? b[i] : "(nothing)";
    if (x != y) return fmt::format("found \"{}\", rank 0 has \"{}\"", y, x);
  }
  return "";
}

}  // namespace

DeviceOptions device_options(const Experiment& e, const ProcessGroup& group) {
  const std::string suffix = group.rank == 0 ? "" : fmt::format(".rank-{}", group.rank);
  DeviceOptions options;
  options.device = e.run.device;
  options.index = count_gpus() == 1 ? 0 : group.local_rank;  // some launchers show each rank its GPU only
  options.threads = static_cast<int>(e.run.threads);
  if (!e.run.gemm_cache.empty()) options.gemm_cache = e.run.gemm_cache + suffix;
  options.attention_engine = e.attention.engine;
  options.attention_choices = e.run.dir + "/attention-engines.txt" + suffix;
  return options;
}

CommOptions comm_options(const Experiment& e) {
  CommOptions options;
  options.timeout = std::chrono::milliseconds(static_cast<int64_t>(1e3 * e.distributed.timeout_seconds));
  options.backend = e.distributed.backend;
  return options;
}

RunDirectory open_directory(const Experiment& experiment, const TrainOptions& options, Communicator& comm) {
  if (comm.world_size() == 1) return RunDirectory(experiment, options);
  if (comm.rank() == 0) {
    std::optional<RunDirectory> directory;
    try {
      directory.emplace(experiment, options);
    } catch (const std::exception& error) {
      const auto* own = dynamic_cast<const Error*>(&error);
      const ExitCode code = own == nullptr ? ExitCode::failed : own->code();
      comm.all_gather_text(json{{"error", error.what()}, {"code", static_cast<int>(code)}}.dump());
      throw;
    }
    comm.all_gather_text(opened_by_first(directory->checkpoint()).dump());
    return *std::move(directory);
  }
  const json first = json::parse(comm.all_gather_text("").front());
  if (first.contains("error"))
    throw Error("rank 0: " + first.at("error").get<std::string>(),
                static_cast<ExitCode>(first.at("code").get<int>()));
  std::optional<FoundCheckpoint> found;
  if (first.at("step").get<int64_t>() >= 0)
    found = {first.at("step").get<int64_t>(), first.at("dir").get<std::string>()};
  return RunDirectory(experiment, std::move(found));
}

void check_agreement(const Experiment& experiment, const std::string& program, const Trainer& trainer,
                     Communicator& comm) {
  if (comm.world_size() == 1) return;
  const std::string own = fmt::format(
      "program {}\n{}data: {} tokens in {} samples, checksum {}\nsharding plan: {:016x}\nstep: {}\n", program,
      to_yaml(experiment), trainer.training_data().tokens(), trainer.training_data().samples_per_epoch(),
      trainer.training_data().checksum(), trainer.plan().shards->hash(), trainer.progress().step);
  const std::vector<std::string> all = comm.all_gather_text(own);
  for (size_t rank = 1; rank < all.size(); ++rank)
    if (const std::string difference = first_difference(all[0], all[rank]); !difference.empty())
      fail_usage("rank {} does not fit: {}. All ranks need the same program, configuration and data.", rank,
                 difference);
}

std::string start_token(Communicator& comm) {
  std::random_device random;
  const std::string own = fmt::format("{:08x}{:08x}", random(), random());
  return comm.all_gather_text(own).front();
}

}  // namespace polar

// polartrain bench comm: what the links between the ranks carry. Every rank measures; the slowest counts.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <vector>

#include "bench.h"
#include "comm/communicator.h"
#include "train/ranks.h"

namespace polar::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::array<int64_t, 5> kBytes{1 << 12, 1 << 16, 1 << 20, 1 << 23,
                                        1 << 26};  // of all parts together

struct Row {
  const char* name;
  int64_t bytes_sent;  // by a rank
  double seconds;
};

// The median over the repeats, of the slowest rank. Every repeat begins on all ranks together.
double slowest(Ops& ops, Communicator& comm, int64_t repeats, const std::function<void(Mark&)>& operation) {
  const auto mark = comm.make_mark();
  std::vector<double> seconds;
  for (int64_t i = 0; i <= repeats; ++i) {
    ops.synchronize();
    comm.barrier();
    const auto begin = Clock::now();
    operation(*mark);
    mark->wait();
    if (i > 0) seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());  // 0 warms up
  }
  comm.check();
  std::sort(seconds.begin(), seconds.end());
  double most = 0.0;
  for (const std::string& text : comm.all_gather_text(fmt::format("{}", seconds[seconds.size() / 2])))
    most = std::max(most, std::stod(text));
  return most;
}

std::vector<Row> measure_all(Ops& ops, Communicator& comm, int64_t repeats) {
  const int64_t ranks = comm.world_size();
  Buffers buffers(ops);
  std::array<BufferId, kBytes.size()> ids;
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = buffers.add(DType::f32, {ranks, std::max<int64_t>(1, kBytes[i] / 4 / ranks)});
  const BufferId scalar = buffers.add(DType::f64, {1});
  buffers.allocate();
  std::vector<Row> rows{{"all_reduce of a number", 0, slowest(ops, comm, repeats, [&](Mark& done) {
                           comm.all_reduce_sum(buffers[scalar], "bench", done);
                         })}};
  for (const BufferId id : ids) {
    const Tensor parts = buffers[id], own = parts.slice(comm.rank() * parts.shape[1], {parts.shape[1]});
    const int64_t sent = (ranks - 1) * own.count() * static_cast<int64_t>(size_of(own.dtype));
    ops.fill(parts, 0.0);  // sums that stay what they are
    rows.push_back({"reduce_scatter", sent, slowest(ops, comm, repeats, [&](Mark& done) {
                      comm.reduce_scatter_sum(parts, own, "bench", done);
                    })});
    rows.push_back({"all_gather", sent,
                    slowest(ops, comm, repeats, [&](Mark& done) { comm.all_gather(parts, "bench", done); })});
  }
  return rows;
}

void print(const std::vector<Row>& rows, const std::string& device, int ranks, bool json) {
  if (json) {
    nlohmann::ordered_json out{
        {"device", device}, {"ranks", ranks}, {"rows", nlohmann::ordered_json::array()}};
    for (const Row& row : rows)
      out["rows"].push_back({{"name", row.name},
                             {"ms", 1e3 * row.seconds},
                             {"bytes_sent", row.bytes_sent},
                             {"bytes_per_s", static_cast<double>(row.bytes_sent) / row.seconds}});
    std::printf("%s\n", out.dump().c_str());
    return;
  }
  std::printf("%s, %d ranks\n\n%-24s %12s %10s %10s\n", device.c_str(), ranks, "", "MB a rank", "ms", "GB/s");
  for (const Row& row : rows)
    std::printf("%-24s %12.3f %10.4f %10.3f\n", row.name, 1e-6 * static_cast<double>(row.bytes_sent),
                1e3 * row.seconds, 1e-9 * static_cast<double>(row.bytes_sent) / row.seconds);
}

}  // namespace

ExitCode bench_comm(const Options& options) {
  const ProcessGroup group = process_group_from_environment();
  if (group.world_size == 1)
    fail_usage(
        "bench comm: found one process, expected several: polartrain launch --nproc-per-node 2 bench comm");
  Experiment e;
  e.run.device = options.device;
  e.run.threads = options.threads;
  const auto ops = make_ops(device_options(e, group));
  const auto comm = make_communicator(group, comm_options(e), *ops);
  const std::vector<Row> rows = measure_all(*ops, *comm, options.repeats);
  if (group.rank == 0) print(rows, ops->device_name(), group.world_size, options.json);
  return ExitCode::done;
}

}  // namespace polar::bench

// Where the processes of a run meet: the store, who is there, and what the first one to fail had to say.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "comm/environment.h"
#include "comm/store.h"

namespace polar {

// How further clients of the run's store connect (one of their own for each thread that waits).
struct StoreAddress {
  std::string host;
  uint16_t port = 0;
  std::string run_id;  // what the server asks for
};

// Why a rank gave up.
struct GroupFailure {
  ExitCode code = ExitCode::failed;
  std::string cause;   // one line
  std::string report;  // where all ranks were; lines that each begin with a line break
};

class Rendezvous {
 public:
  // Rank 0 opens the store at the group's master_port, unless the launcher has done so. All connect to it and
  // say who they are. Errors: the port is taken; the master does not answer; another world size or a rank
  // that is there twice; not all ranks within the timeout: which are missing.
  Rendezvous(const ProcessGroup& group, std::chrono::milliseconds timeout);
  // After a failure the store stays for a moment, so that the others can read what it was.
  ~Rendezvous();

  StoreClient& store() { return *client_; }
  const StoreAddress& address() const { return address_; }
  // Of this run and this start of it: "night/2/".
  const std::string& prefix() const { return prefix_; }
  // The address at which the other ranks reach this one, numeric.
  const std::string& own_address() const { return own_address_; }
  // "rank 3 (gpu07, process 1234)"
  std::string describe(int rank) const;
  // Whether the store is a part of this process, and ends with it.
  bool holds_store() const { return server_ != nullptr; }

  // Leaves a failure for the others, if it is the first; else returns which was. Takes a second at most, even
  // when the store is gone. From any thread.
  std::optional<GroupFailure> report_failure(const GroupFailure& failure) noexcept;
  std::optional<GroupFailure> find_failure(StoreClient& client) const;
  // Waits for a key in this run's part of the store; the failure of another rank meanwhile is an Error.
  std::string wait_for(const std::string& key, Deadline deadline, const std::string& what);

 private:
  void open_store();
  void check_world_size();
  void meet(Deadline deadline);
  void linger() const;
  std::string missing();

  const ProcessGroup group_;
  const std::chrono::milliseconds timeout_;
  StoreAddress address_;
  std::string prefix_, own_address_;
  std::unique_ptr<StoreServer> server_;
  std::unique_ptr<StoreClient> client_;
  std::atomic<bool> failed_ = false;
  std::vector<std::string> members_;  // what describe() says of each
};

}  // namespace polar

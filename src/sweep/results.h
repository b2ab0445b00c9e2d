// What became of the runs of a sweep, kept in DIR/sweep.json, and how its points rank.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "sweep/definition.h"

namespace polar::sweep {

inline constexpr const char* kSweepFile = "sweep.json";

// diverged: stopped by the loss guard, or the validation loss is not finite; the same again would end the
// same way. failed: anything else that went wrong; stopped: by a signal, it goes on from its checkpoint.
enum class State { pending, done, diverged, failed, stopped };

const char* name_of(State state);

struct RunResult {
  uint64_t seed = 0;
  State state = State::pending;
  std::optional<double> val_loss;       // final, nats a token; of a run that is done
  std::optional<double> bits_per_byte;  // final
  std::optional<double> step_seconds;   // median over the logged steps
  int64_t steps = 0;                    // logged so far
  double seconds = 0.0;                 // that its processes have taken
  double cpu_seconds = 0.0;             // of all their threads
  int exit_code = 0;                    // of its last process; 128 + the signal that ended it
  std::string message;                  // the last that it said, if it is not done
  std::string program;                  // version and commit of what has trained it last
};

struct Results {
  std::vector<std::vector<RunResult>> points;  // of every point of the definition, its seeds
};

// Of the seeds of a point that are done.
struct Spread {
  size_t count = 0;
  double mean = 0.0;
  double deviation = 0.0;  // sample standard deviation (n - 1); 0 of one
  double low = 0.0, high = 0.0;
};
std::optional<Spread> spread_of(const std::vector<RunResult>& runs);

struct Ranked {
  size_t point;
  std::optional<Spread> spread;
  // From 1; 0: not ranked, because a seed is missing. A mean over those that have survived would flatter.
  size_t rank = 0;
};
// All points: those whose seeds are all done by their mean, then the others, with more done seeds first.
std::vector<Ranked> ranking(const Results& results);

size_t count(const Results& results, State state);

// Reads what a run's directory holds after its process has ended with `exit_code`. `max_steps`: with which it
// is done. `global_tokens`: of a step. Does not throw for what it finds: that is the run's fault, and in the
// message.
void read_run(const std::filesystem::path& run, int64_t max_steps, int64_t global_tokens, int exit_code,
              RunResult& result);

// DIR/sweep.json: definition, ranking and results, numbers with all digits.
std::string to_json(const Definition& definition, const Results& results);

// What DIR/sweep.json says that the sweep is; without experiments. Errors: no such file, damaged, of another
// format.
Definition read_definition(const std::filesystem::path& sweep);

// The results of the definition's points and seeds as far as DIR/sweep.json has them; what it has not is
// pending. Errors: a file that is damaged.
Results load_results(const std::filesystem::path& sweep, const Definition& definition);

}  // namespace polar::sweep

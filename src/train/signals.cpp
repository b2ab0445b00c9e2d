#include "train/signals.h"

#include <time.h>
#include <unistd.h>

namespace polar {
namespace {

constexpr std::array<int, 4> kSignals{SIGTERM, SIGINT, SIGHUP, SIGQUIT};
constexpr double kSameRequest = 1.0;  // s

volatile std::sig_atomic_t g_received = 0;
timespec g_when{};  // touched by the handler only, which all of these signals hold up

void handle(int signal) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (g_received == 0) {
    g_when = now;
    g_received = signal;
    return;
  }
  const double since = static_cast<double>(now.tv_sec - g_when.tv_sec) +
                       1e-9 * static_cast<double>(now.tv_nsec - g_when.tv_nsec);
  if (signal != g_received || since > kSameRequest) _exit(128 + signal);
}

}  // namespace

SignalGuard::SignalGuard() {
  g_received = 0;
  struct sigaction action {};
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (const int signal : kSignals) sigaddset(&action.sa_mask, signal);
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &old_[i]);
    if (kSignals[i] == SIGHUP && old_[i].sa_handler == SIG_IGN) continue;
    sigaction(kSignals[i], &action, nullptr);
  }
}

SignalGuard::~SignalGuard() {
  if (g_received != 0) return;
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &old_[i], nullptr);
}

int SignalGuard::received() {
  return g_received;
}

}  // namespace polar

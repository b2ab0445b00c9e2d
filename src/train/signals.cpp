#include "train/signals.h"

#include <unistd.h>
#include <csignal>

namespace polar {
namespace {

volatile std::sig_atomic_t g_received = 0;
struct sigaction g_old_term, g_old_int;

void handle(int signal) {
  if (g_received != 0) _exit(128 + signal);
  g_received = signal;
}

}  // namespace

SignalGuard::SignalGuard() {
  g_received = 0;
  struct sigaction action {};
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, &g_old_term);
  sigaction(SIGINT, &action, &g_old_int);
}

SignalGuard::~SignalGuard() {
  sigaction(SIGTERM, &g_old_term, nullptr);
  sigaction(SIGINT, &g_old_int, nullptr);
}

int SignalGuard::received() {
  return g_received;
}

}  // namespace polar

// A thread that takes no signals: they stay with the threads that have handlers for them, and a broken
// connection is an error code there, never SIGPIPE.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace polar {

template <class Function>
std::thread quiet_thread(Function&& function) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // which the new thread, and those that it starts, inherit
  std::thread thread;
  try {
    thread = std::thread(std::forward<Function>(function));
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace polar

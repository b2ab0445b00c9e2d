// The processes below this one, however deep. The launcher is their subreaper (PR_SET_CHILD_SUBREAPER): one
// whose parent has ended becomes its child, and so none gets away by starting another session.
#pragma once

#include <sys/types.h>

#include <vector>

namespace polar::launch {

// Those that are alive or not yet waited for, found in /proc.
std::vector<pid_t> descendants();
// Sends the signal to each of them.
void signal_descendants(int signal);
// SIGKILL to all, and waits until none is left, for at most `seconds` (a process in a broken device driver
// does not even die of SIGKILL). Returns those that are left.
std::vector<pid_t> kill_descendants(double seconds = 10);
// From now on processes whose parent has ended become children of this one. Throws Error.
void become_subreaper();

}  // namespace polar::launch

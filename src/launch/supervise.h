// The launcher is two processes, so that no worker survives it, however it ends. The outer one, which the
// user knows, takes the signals; the inner one has the workers. If the outer one is gone, the inner one kills
// everything; if the inner one is gone, its processes become the outer one's, which does the same.
#pragma once

#include <functional>
#include <vector>

#include "launch/group.h"

namespace polar::launch {

// Runs `body` in the inner process and returns what it returns; an Error there is written to standard error
// and becomes its exit code. `signals` reach the body through Events::control. A SIGHUP that the caller
// ignores (nohup) stays ignored.
int supervise(const std::vector<int>& signals, const std::function<int(const Events&)>& body);

}  // namespace polar::launch

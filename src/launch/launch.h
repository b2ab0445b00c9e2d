// `polartrain launch`: starts one worker a local rank, and again after a failure, on one node or several.
#pragma once

#include "launch/options.h"

namespace polar::launch {

// Returns the launcher's exit code: 0; that of the worker that failed first, or 128 + its signal; after a
// signal to the launcher that of the workers, 3 if they have saved and stopped. Errors: exit code 2 for
// options that do not fit together and programs that cannot be started.
int run(const Options& options);

}  // namespace polar::launch

// The Error that an action must end with.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"

namespace polar::test {

// Runs the action and returns the Error that it throws; throwing none is a failure of the test.
template <class Action>
Error error_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return Error("no error", ExitCode::done);
}

template <class Action>
std::string message_of(const Action& action) {
  return error_of(action).what();
}

}  // namespace polar::test

// Checks that an action throws Error with a message fit for a user.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "engine/check.h"

namespace entangle {

// The message must be one line that contains every one of `parts`.
inline void expect_error(const std::function<void()>& action, const std::vector<std::string>& parts) {
  try {
    action();
  } catch (const Error& error) {
    const std::string message = error.what();
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << '"' << part << "\" in: " << message;
    }
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return;
  }
  ADD_FAILURE() << "no error; expected one with " << (parts.empty() ? "" : parts.front());
}

}  // namespace entangle

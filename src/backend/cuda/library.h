// A shared library that is opened when it is first needed: the program starts where it is not installed.
#pragma once

#include <string>

namespace polar::cuda {

// Stays open for the rest of the process.
class Library {
 public:
  // dlopen's rules for the name. If it cannot be had, why() says so.
  explicit Library(const char* name);
  explicit operator bool() const { return handle_ != nullptr; }
  const std::string& why() const { return why_; }

  // The library's function of this name; false if it has none.
  template <class Function>
  bool find(const char* symbol, Function& function) const {
    function = reinterpret_cast<Function>(address(symbol));
    return function != nullptr;
  }

 private:
  void* address(const char* symbol) const;
  void* handle_;
  std::string why_;
};

}  // namespace polar::cuda

// Two network namespaces with a cable between them: two machines, 10.77.0.1 and 10.77.0.2.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "launching.h"

namespace polar::launch {

class Machines {
 public:
  Machines() {
    usable_ = ip("netns add " + name(0)) && ip("netns add " + name(1)) &&
              ip("link add polar0 netns " + name(0) + " type veth peer name polar1 netns " + name(1));
    for (int i = 0; usable_ && i < 2; ++i) {
      const std::string in = "-n " + name(i), link = "polar" + std::to_string(i);
      usable_ = ip(in + " addr add 10.77.0." + std::to_string(i + 1) + "/24 dev " + link) &&
                ip(in + " link set lo up") && ip(in + " link set " + link + " up");
    }
  }
  ~Machines() {
    for (int i = 0; i < 2; ++i) ip("netns del " + name(i));
  }
  Machines(const Machines&) = delete;
  Machines& operator=(const Machines&) = delete;
  bool usable() const { return usable_; }
  void plug(bool in) const { ip("-n " + name(0) + " link set polar0" + (in ? " up" : " down")); }
  std::unique_ptr<Launcher> launch(int machine, const std::vector<std::string>& arguments,
                                   const std::vector<std::string>& variables = {},
                                   const std::vector<std::string>& launcher = {POLAR_BINARY,
                                                                               "launch"}) const {
    return std::make_unique<Launcher>(
        arguments, variables, "", std::vector<std::string>{"ip", "netns", "exec", name(machine)}, launcher);
  }

 private:
  static bool ip(const std::string& words) {
    return test::run_process({"/bin/sh", "-c", "ip " + words}).code == 0;
  }
  static std::string name(int i) { return "polar-" + std::to_string(getpid()) + "-" + std::to_string(i); }

  bool usable_ = false;
};

}  // namespace polar::launch

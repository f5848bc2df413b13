// Ctrl-C as a question that the loop can ask.
#pragma once

#include <csignal>

namespace poolgrad::cli {

/// While it lives, the first SIGINT or SIGTERM only sets a flag; a second one ends the process at
/// once.
class Interrupt {
 public:
  Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  ~Interrupt();

  [[nodiscard]] bool requested() const;

 private:
  struct sigaction before_int_ {
  }, before_term_{};
};

}  // namespace poolgrad::cli

// One flag for the process, as signals are the process's.
#include "cli/interrupt.h"

namespace poolgrad::cli {
namespace {
volatile std::sig_atomic_t requested_flag = 0;
}  // namespace

Interrupt::Interrupt() {
  requested_flag = 0;
  struct sigaction action {};
  action.sa_handler = [](int) { requested_flag = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &before_int_);
  sigaction(SIGTERM, &action, &before_term_);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &before_int_, nullptr);
  sigaction(SIGTERM, &before_term_, nullptr);
}

bool Interrupt::requested() const { return requested_flag != 0; }

}  // namespace poolgrad::cli

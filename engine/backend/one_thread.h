// OneThread: keeps a library's own threads out of a call.
#pragma once

namespace poolgrad {

/// While it lives, kernel libraries that the calling thread makes primitives with or calls use this
/// thread alone; before it dies the caller's setting comes back. Threads are the engine's business
/// (team.h).
class OneThread {
 public:
  OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread();

 private:
  [[maybe_unused]] int before_ = 1;
};

/// The same for the calling thread's whole life.
void use_one_thread();

}  // namespace poolgrad

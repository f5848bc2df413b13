// Barriers by a counter that goes up; waiting by spinning, then by sleeping on it.
#include "engine/team.h"

#include "memory/forks.h"

namespace poolgrad {
namespace {

constexpr int kSpins = 2000;  // about 20 µs: most of a small step's waits end earlier

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

void Team::Turn::wait(int old) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (now() != old) return;
    pause();
  }
  sleeps_.fetch_add(1, std::memory_order_relaxed);
  turn_.wait(old, std::memory_order_acquire);
}

void Team::Turn::next() {
  turn_.fetch_add(1, std::memory_order_acq_rel);
  turn_.notify_all();  // no system call where nobody sleeps
}

Team::Team(int members, const std::function<void()>& begin)
    : members_(members), made_in_(memory::forks()) {
  for (int member = 1; member < members; ++member) {
    threads_.emplace_back([this, member, begin] {
      if (begin) begin();
      for (int seen = 0;; ++seen) {
        job_.wait(seen);
        if (stop_) return;
        call_(work_, member);
        meet();
      }
    });
  }
  auto nothing = [](int) {};
  run(nothing);  // until all have begun: nothing of theirs is left for the first step
}

Team::~Team() {
  stop_ = true;
  job_.next();
  for (std::thread& thread : threads_) thread.join();
}

void Team::meet() {
  const int now = met_.now();
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 < members_) return met_.wait(now);
  arrived_.store(0, std::memory_order_relaxed);
  met_.next();
}

bool Team::forked() const { return made_in_ != memory::forks(); }

}  // namespace poolgrad

// Team: threads that run one function together and meet at barriers. Nothing is queued or
// allocated.
#pragma once

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

namespace poolgrad {

/// Members wait by spinning for about as long as a small step takes, then sleep in the kernel. They
/// are not pinned. After a fork the child's copy has no threads: forked() says so.
class Team {
 public:
  /// The caller is member 0; the others wait from now on. `begin` has run on each of them before.
  explicit Team(int members, const std::function<void()>& begin = {});
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team();

  /// Calls work(member) on every member; answers when all are done. `work` must not throw.
  template <typename F>
  void run(F& work) {
    work_ = &work;
    call_ = [](void* f, int member) { (*static_cast<F*>(f))(member); };
    job_.next();
    work(0);
    meet();
  }

  /// Waits until every member has called it as often. What was written before is seen after.
  void meet();

  [[nodiscard]] int members() const { return members_; }
  /// How often a member waited longer than it spins and so went to sleep, by a system call.
  [[nodiscard]] std::size_t sleeps() const { return job_.sleeps() + met_.sleeps(); }
  /// Whether this process was forked off since the team was made.
  [[nodiscard]] bool forked() const;

 private:
  /// Counts up; waiting for the next number.
  class alignas(64) Turn {
   public:
    [[nodiscard]] int now() const { return turn_.load(std::memory_order_acquire); }
    void wait(int old);
    void next();
    [[nodiscard]] std::size_t sleeps() const { return sleeps_.load(std::memory_order_relaxed); }

   private:
    std::atomic<int> turn_ = 0;
    std::atomic<std::size_t> sleeps_ = 0;
  };

  int members_;
  unsigned made_in_;  // which process, counted by forks
  Turn job_, met_;
  alignas(64) std::atomic<int> arrived_ = 0;
  void* work_ = nullptr;
  void (*call_)(void*, int) = nullptr;
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace poolgrad

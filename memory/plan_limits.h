// Plan limits: how long the planner may go on. Internal to memory/.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>

namespace poolgrad::memory {

/// Counts the trials of all searches of one plan and says when to stop. The clock can only stop it
/// earlier than the count would.
class PlanLimits {
 public:
  /// `nodes` below 0: any number. `seconds` of 0: no clock.
  PlanLimits(std::int64_t nodes, double seconds)
      : left_(nodes < 0 ? std::numeric_limits<std::int64_t>::max() : nodes), timed_(seconds > 0) {
    if (timed_) {
      end_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                std::chrono::duration<double>(seconds < 1e6 ? seconds : 1e6));
    }
  }

  /// Takes `count` trials; false when none are left or time is up.
  bool take(std::int64_t count = 1) {
    left_ -= count;
    if (left_ < 0) return false;
    nodes_ += count;
    if (timed_ && !late_ && (since_ += count) >= kPerLook) {
      since_ = 0;
      look();
    }
    return !late_;
  }

  /// Looks at the clock now, for work that counts no trials.
  void look() {
    if (timed_) late_ = late_ || Clock::now() >= end_;
  }

  [[nodiscard]] bool spent() const { return left_ <= 0 || late_; }
  [[nodiscard]] bool late() const { return late_; }
  [[nodiscard]] std::int64_t nodes() const { return nodes_; }
  [[nodiscard]] std::int64_t left() const { return left_; }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::int64_t kPerLook = 64;  // a trial takes microseconds

  std::int64_t left_;
  std::int64_t nodes_ = 0;
  std::int64_t since_ = kPerLook;  // the first trial looks
  bool timed_;
  bool late_ = false;
  Clock::time_point end_;
};

}  // namespace poolgrad::memory

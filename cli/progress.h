// The progress line of a terminal.
#pragma once

#include <chrono>
#include <cstdio>

#include "train/fit.h"

namespace poolgrad::cli {

/// Rewrites one line at most ten times a second; on anything but a terminal it writes nothing.
class Progress {
 public:
  /// `begun`: which share of all epochs was done before.
  Progress(std::FILE* out, int epochs, double begun = 0.0);

  /// How far training is, with the time that is left by the speed so far.
  void show(const train::StepReport& step);
  /// Makes room for another line.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  std::FILE* out_;
  int epochs_;
  double begun_;
  bool terminal_;
  bool shown_ = false;
  Clock::time_point begin_ = Clock::now(), last_{};
};

}  // namespace poolgrad::cli

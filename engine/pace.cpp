// Trials take the fastest of a few runs, which a passing disturbance does not change.
#include "engine/pace.h"

#include <algorithm>
#include <limits>

namespace poolgrad {
namespace {

constexpr int kTrial = 12;         // runs of a small step in a trial
constexpr int kWarm = 4;           // of which the first do not count
constexpr int kPatience = 8;       // runs in a row that the caller may mostly wait in
constexpr int kLargePatience = 2;  // the same while a large step is tried
constexpr double kLarge = 1e-3;    // seconds from which a trial would cost too much
constexpr double kWindow = 10e-3;  // seconds over which the team's runs are averaged
constexpr double kMargin = 1.1;    // an average is never as good as the fastest
constexpr double kShortest = 0.1, kLongest = 0.4,
                 kLongestLarge = 1.6;  // seconds between trials, doubled at each failure

}  // namespace

void Pace::begin(Mode mode) {
  mode_ = mode;
  runs_ = impatient_ = 0;
  spent_ = 0.0;
  fastest_ = std::numeric_limits<double>::infinity();
}

bool Pace::is_slower_than_alone() const {
  return fastest_alone_ > 0.0 && spent_ > kMargin * runs_ * fastest_alone_;
}

void Pace::stay(bool with_team, double now, double seconds) {
  if (!with_team)
    pause_ = std::clamp(2 * pause_, kShortest, seconds < kLarge ? kLongest : kLongestLarge);
  try_again_at_ = now + pause_;
  begin(with_team ? Mode::team : Mode::alone);
}

bool Pace::team(double now) {
  if (mode_ == Mode::alone && now >= try_again_at_) begin(Mode::trying_team);
  return mode_ == Mode::trying_team || mode_ == Mode::team;
}

void Pace::note(double now, double seconds, double waited) {
  ++runs_;
  spent_ += seconds;
  impatient_ = waited > seconds / 2 ? impatient_ + 1 : 0;
  if (runs_ > kWarm) fastest_ = std::min(fastest_, seconds);
  if (mode_ == Mode::team) {
    if (impatient_ == kPatience || (spent_ >= kWindow && is_slower_than_alone())) {
      stay(false, now, seconds);
    } else if (spent_ >= kWindow) {
      spent_ = pause_ = 0.0;
      runs_ = 0;
    }
  } else if (mode_ == Mode::trying_team && seconds >= kLarge) {
    if (impatient_ == 0 || impatient_ == kLargePatience) stay(impatient_ == 0, now, seconds);
  } else if (runs_ == kTrial && mode_ == Mode::trying_team) {
    fastest_team_ = fastest_;
    begin(Mode::trying_alone);
  } else if (runs_ == kTrial && mode_ == Mode::trying_alone) {
    fastest_alone_ = fastest_;
    stay(fastest_team_ <= fastest_, now, seconds);
  }
}

}  // namespace poolgrad

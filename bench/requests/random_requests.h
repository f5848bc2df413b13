// Random requests for tests and benches of the planner: intervals of one member, and steps of a
// team.
#pragma once

#include <cstddef>
#include <random>
#include <vector>

#include "memory/plan.h"

namespace poolgrad::memory::testing {

/// `count` intervals of one member, some of no bytes or no steps.
inline std::vector<Request> random_intervals(unsigned seed, std::size_t count) {
  std::mt19937 random(seed);
  const auto below = [&random](unsigned n) { return random() % n; };
  const unsigned steps = 2 + below(2 * static_cast<unsigned>(count));
  const unsigned most = 1U << below(20);
  std::vector<Request> requests(count);
  for (Request& r : requests) {
    r.bytes = below(10) == 0 ? 0 : below(most) + 1;
    r.first = static_cast<int>(below(steps));
    r.end = r.first + static_cast<int>(below(3) == 0 ? below(steps) : below(5));
  }
  return requests;
}

/// `count` requests of a team of `members`: each member walks its own steps, which lie in phases in
/// order; a request of several members knows only phases.
inline std::vector<Request> random_team(unsigned seed, std::size_t count, int members) {
  constexpr int kStepsPerPhase = 6;
  constexpr int kPhases = 4;
  std::mt19937 random(seed);
  const auto below = [&random](int n) {
    return static_cast<int>(random() % static_cast<unsigned>(n));
  };
  std::vector<Request> requests(count);
  for (Request& r : requests) {
    r.bytes = static_cast<std::size_t>(below(1000));
    r.member = below(members + 1) - 1;
    r.first = below(kStepsPerPhase * kPhases - 1);
    r.end = r.first + 1 + below(below(2) == 0 ? 3 : kStepsPerPhase * kPhases - r.first);
    r.first_phase = r.first / kStepsPerPhase;
    r.end_phase = (r.end - 1) / kStepsPerPhase + 1;
  }
  return requests;
}

}  // namespace poolgrad::memory::testing

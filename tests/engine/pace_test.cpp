// Who runs a step, on a clock that the test turns.
#include "engine/pace.h"

#include <initializer_list>

#include <doctest/doctest.h>

namespace poolgrad {
namespace {

/// A machine on which a step takes so long by the team (of which the caller waits a part) and
/// alone.
struct Machine {
  double team_seconds, waited_share, alone_seconds;
  double stall_seconds = 0.0;  // that every hundredth run of the team takes more
};

/// Runs steps for `seconds`; answers which share of the time the team ran.
double share_of_team(Pace& pace, double& now, const Machine& machine, double seconds) {
  double by_team = 0.0;
  const double begin = now;
  int runs = 0;
  while (now < begin + seconds) {
    const bool team = pace.team(now);
    double took = team ? machine.team_seconds : machine.alone_seconds;
    if (team && ++runs % 100 == 50) took += machine.stall_seconds;
    now += took;
    if (team) by_team += took;
    pace.note(now, took, team ? took * machine.waited_share : 0.0);
  }
  return by_team / (now - begin);
}

TEST_CASE("pace: small steps are run in the faster way, whichever it is") {
  for (const bool team_is_faster : {true, false}) {
    Pace pace;
    double now = 0.0;
    const Machine machine{team_is_faster ? 35e-6 : 80e-6, 0.1, 60e-6};
    (void)share_of_team(pace, now, machine, 0.1);
    const double share = share_of_team(pace, now, machine, 5.0);
    CHECK(share > (team_is_faster ? 0.99 : -1.0));
    CHECK(share < (team_is_faster ? 2.0 : 0.02));
  }
}

TEST_CASE("pace: large steps are left to the team while its caller does not mostly wait") {
  Pace pace;
  double now = 0.0;
  CHECK(share_of_team(pace, now, {7e-3, 0.2, 14e-3}, 1.0) == 1.0);
}

TEST_CASE("pace: a neighbour who holds a core is left alone, and the team comes back after it") {
  for (const double step : {35e-6, 7e-3}) {
    CAPTURE(step);
    Pace pace;
    double now = 0.0;
    const Machine quiet{step, 0.1, 2 * step}, busy{8 * step, 0.8, 2 * step};
    (void)share_of_team(pace, now, quiet, 1.0);
    (void)share_of_team(pace, now, busy, 1.0);
    CHECK(share_of_team(pace, now, busy, 10.0) < 0.12);
    (void)share_of_team(pace, now, quiet, 4.0);
    CHECK(share_of_team(pace, now, quiet, 1.0) > 0.99);
  }
}

TEST_CASE("pace: a team that is fast but for rare long stops is slower than the caller alone") {
  Pace pace;
  double now = 0.0;
  const Machine quiet{35e-6, 0.1, 65e-6}, busy{35e-6, 0.1, 65e-6, /*stall_seconds=*/13e-3};
  (void)share_of_team(pace, now, quiet, 1.0);
  (void)share_of_team(pace, now, busy, 1.0);
  CHECK(share_of_team(pace, now, busy, 10.0) < 0.12);
  (void)share_of_team(pace, now, quiet, 1.0);
  CHECK(share_of_team(pace, now, quiet, 1.0) > 0.99);
}

}  // namespace
}  // namespace poolgrad

// Barriers and forks.
#include "engine/team.h"

#include <chrono>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace poolgrad {
namespace {

TEST_CASE("team: a barrier holds, whatever the members do before it") {
  for (const int members : {1, 2, 3, 8}) {
    CAPTURE(members);
    Team team(members);
    std::atomic<int> sum = 0;
    bool right = true;
    for (int i = 0; i < 100; ++i) {
      auto work = [&](int member) {
        if ((i + member) % 50 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
        sum += 1;
        team.meet();
        if (member == 0) right = right && sum == members * (i + 1);
        team.meet();
      };
      team.run(work);
    }
    CHECK(right);
  }
}

TEST_CASE("team: each member's `begin` runs once, on its own thread") {
  std::atomic<int> begun = 0;
  {
    Team team(4, [&] { ++begun; });
    auto nothing = [](int) {};
    team.run(nothing);
  }
  CHECK(begun == 3);
}

#if !defined(__SANITIZE_THREAD__)
TEST_CASE("team: a forked child knows that its threads stayed behind") {
  Team team(2);
  CHECK_FALSE(team.forked());
  const pid_t child = fork();
  if (child == 0) _exit(team.forked() ? 0 : 1);
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK_FALSE(team.forked());
}
#endif

}  // namespace
}  // namespace poolgrad

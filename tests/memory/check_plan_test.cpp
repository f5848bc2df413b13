// The checker catches every way in which a plan can be broken.
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "bench/requests/random_requests.h"
#include "memory/plan.h"

namespace poolgrad::memory {
namespace {

const std::vector<Request> kThree{{.bytes = 100, .first = 0, .end = 2},
                                  {.bytes = 50, .first = 1, .end = 3},
                                  {.bytes = 100, .first = 2, .end = 4}};

Plan plan_of_three() {
  return {.offsets = {0, 128, 0},
          .arena_bytes = 192,
          .lower_bound_bytes = 192,
          .witness = {.phase = 0, .steps = {{0, 1}}},
          .proved_bytes = 192};
}

TEST_CASE("check: a sound plan has no offence") { CHECK(check(plan_of_three(), kThree) == ""); }

TEST_CASE("check: two requests on the same bytes at one moment") {
  Plan plan = plan_of_three();
  plan.offsets[1] = 64;
  CHECK(check(plan, kThree) ==
        "requests 0 and 1 may be alive at one moment but share bytes: [0, 100) and [64, 114)");
}

TEST_CASE("check: an offset missing, off its alignment, or beyond the arena") {
  Plan plan = plan_of_three();
  plan.offsets.pop_back();
  CHECK(check(plan, kThree) == "the plan has 2 offsets for 3 requests");
  plan = plan_of_three();
  plan.offsets[1] = 130;
  CHECK(check(plan, kThree) ==
        "request 1 lies at offset 130, which is no multiple of its alignment 64");
  std::vector<Request> strict = kThree;
  strict[1].alignment = 256;
  CHECK(check(plan_of_three(), strict) ==
        "request 1 lies at offset 128, which is no multiple of its alignment 256");
  plan = plan_of_three();
  plan.arena_bytes = 128;
  CHECK(check(plan, kThree) ==
        "request 1 of 50 bytes at offset 128 ends beyond the arena of 128 bytes");
  plan.arena_bytes = 190;
  CHECK(check(plan, kThree) == "the arena of 190 bytes is no multiple of the alignment 64");
}

TEST_CASE("check: a bound that is not proved by its witness") {
  Plan plan = plan_of_three();
  plan.lower_bound_bytes = 256;
  CHECK(check(plan, kThree) == "the lower bound of 256 bytes is above the arena of 192 bytes");
  plan = plan_of_three();
  plan.witness.steps[0].step = 0;
  CHECK(check(plan, kThree) == "the witness of the lower bound has 128 bytes alive, not 192");
  plan.witness.steps = {{0, 0}, {0, 2}};
  CHECK(check(plan, kThree) ==
        "the witness of the lower bound names member 0 out of order or twice");
}

TEST_CASE("check: steps order one member, only phases order two") {
  std::vector<Request> requests{{.bytes = 64, .first = 0, .end = 1, .member = 0},
                                {.bytes = 64, .first = 5, .end = 6, .member = 0}};
  const Plan plan{.offsets = {0, 0}, .arena_bytes = 64, .lower_bound_bytes = 0, .witness = {}};
  CHECK(check(plan, requests) == "");
  requests[1].member = 1;
  CHECK(check(plan, requests) != "");
  requests[1].member = kSeveral;
  CHECK(check(plan, requests) != "");
  requests[0].member = kSeveral;
  CHECK(check(plan, requests) != "");
  requests[1].first_phase = 1;
  requests[1].end_phase = 2;
  CHECK(check(plan, requests) == "");
}

TEST_CASE("check: moving any live request onto one it meets is caught") {
  std::mt19937 random(7);
  int caught = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    const std::vector<Request> requests =
        seed % 2 == 0 ? testing::random_intervals(seed, 30) : testing::random_team(seed, 30, 3);
    Plan broken = plan(requests);
    const std::size_t i = random() % requests.size();
    const std::size_t j = random() % requests.size();
    if (i == j || !together(requests[i], requests[j])) continue;
    broken.offsets[i] = broken.offsets[j];
    CHECK(check(broken, requests) != "");
    ++caught;
  }
  CHECK(caught > 30);
}

TEST_CASE("check: an arena one unit smaller, or a request one unit larger, is caught") {
  for (unsigned seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    std::vector<Request> requests = testing::random_team(seed, 30, 2);
    Plan smaller = plan(requests);
    smaller.arena_bytes -= kAlignment;
    smaller.lower_bound_bytes = 0;
    CHECK(check(smaller, requests) != "");
    const Plan before = plan(requests);
    for (const std::size_t i : alive_at(requests, before.witness)) requests[i].bytes += kAlignment;
    CHECK(check(before, requests) != "");
  }
}

}  // namespace
}  // namespace poolgrad::memory

// Exact search: at the optimum on small requests of any kind, never "infeasible" where brute force
// finds a plan, and at the bound on rectangles cut into pieces.
#include <algorithm>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "bench/requests/cut_rectangle.h"
#include "bench/requests/random_requests.h"
#include "bench/requests/smallest_arena.h"
#include "memory/plan.h"

namespace poolgrad::memory {
namespace {

const PlanOptions kExact{.alignment = 1, .rounds = 0, .capacity = 0, .nodes = -1, .seconds = 0};

PlanOptions within(std::size_t capacity) {
  PlanOptions options = kExact;
  options.capacity = capacity;
  return options;
}

TEST_CASE("search: it finds the smallest arena of few requests, and proves it") {
  int above_the_bound = 0;
  std::vector<unsigned> seeds{878, 930, 982, 1872, 4320, 4516, 6658, 8692};  // above their bound
  for (unsigned seed = 0; seed < 700; ++seed) seeds.push_back(seed);
  for (const unsigned seed : seeds) {
    CAPTURE(seed);
    const std::vector<Request> requests = testing::crowded_requests(seed);
    const Plan result = plan(requests, kExact);
    const std::size_t smallest = testing::smallest_arena(requests);
    CHECK(check(result, requests, 1) == "");
    CHECK(result.arena_bytes == smallest);
    CHECK(result.proved_bytes == smallest);
    CHECK(result.optimal());
    CHECK(result.stop == Stop::done);
    above_the_bound += smallest > result.lower_bound_bytes ? 1 : 0;
  }
  CHECK(above_the_bound >= 8);
}

TEST_CASE("search: that the bound cannot be reached is said exactly where it is so") {
  int infeasible = 0;
  for (unsigned seed = 0; seed < 150; ++seed) {
    CAPTURE(seed);
    const std::vector<Request> requests = testing::tight_requests(seed);
    PlanOptions options = within(lower_bound(requests, 1).bytes);
    options.nodes = 100'000;
    const Plan result = plan(requests, options);
    CHECK(check(result, requests, 1) == "");
    if (result.stop != Stop::proved) continue;
    std::vector<std::size_t> offsets(requests.size());
    CHECK_FALSE(testing::fits(requests, options.capacity, offsets));
    ++infeasible;
  }
  CHECK(infeasible >= 10);
}

TEST_CASE("search: a capacity is proved too small exactly when it is") {
  for (unsigned seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    const std::vector<Request> requests = testing::crowded_requests(seed);
    const std::size_t smallest = testing::smallest_arena(requests);
    const Plan fits = plan(requests, within(smallest));
    CHECK(fits.stop == Stop::done);
    CHECK(fits.arena_bytes == smallest);
    const Plan not_quite = plan(requests, within(smallest - 1));
    CHECK(not_quite.stop == Stop::proved);
    CHECK(not_quite.proved_bytes == smallest);
    CHECK(check(not_quite, requests, 1) == "");
  }
}

TEST_CASE("search: rectangles cut into pieces are put together again") {
  for (const testing::Cuts cuts : {testing::Cuts::guillotine, testing::Cuts::wheels,
                                   testing::Cuts::merged, testing::Cuts::both}) {
    int optimal = 0;
    for (unsigned seed = 0; seed < 10; ++seed) {
      CAPTURE(seed);
      const std::vector<Request> requests =
          testing::CutRectangle(seed, 150, cuts, testing::Rectangle{}).requests();
      const Plan result = plan(requests);
      CHECK(check(result, requests) == "");
      CHECK(result.lower_bound_bytes == testing::Rectangle{}.units * kAlignment);
      optimal += result.optimal() ? 1 : 0;
    }
    CHECK(optimal >= 9);
  }
}

TEST_CASE("search: so they are where many pieces are of one size") {
  for (unsigned seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    const testing::Rectangle whole{.steps = 8 + static_cast<int>(seed), .units = 40 + seed};
    std::vector<Request> requests =
        testing::CutRectangle(seed, 40, testing::Cuts::wheels, whole).requests();
    for (std::size_t i = 0, count = requests.size(); i < count; ++i) {  // and once more behind it
      requests.push_back(requests[i]);
      requests.back().first += whole.steps;
      requests.back().end += whole.steps;
    }
    CHECK(check(plan(requests), requests) == "");
  }
}

TEST_CASE("search: neither the order of requests nor the unit of sizes matters") {
  std::mt19937 random(3);
  for (unsigned seed = 0; seed < 5; ++seed) {
    CAPTURE(seed);
    const testing::Rectangle whole{.steps = 60, .units = 3000};
    std::vector<Request> requests =
        testing::CutRectangle(seed, 60, testing::Cuts::wheels, whole).requests();
    const Plan before = plan(requests);
    std::shuffle(requests.begin(), requests.end(), random);
    for (Request& r : requests) r.bytes *= 3;
    const Plan after = plan(requests);
    CHECK(after.arena_bytes == 3 * before.arena_bytes);
    CHECK(after.optimal() == before.optimal());
  }
}

TEST_CASE("search: it keeps to its trials, and says what stopped it") {
  const std::vector<Request> requests =
      testing::CutRectangle(1, 300, testing::Cuts::wheels, {.steps = 30, .units = 997}).requests();
  PlanOptions options{
      .alignment = kAlignment, .rounds = 0, .capacity = 0, .nodes = 100, .seconds = 0};
  const Plan few = plan(requests, options);
  CHECK(few.stop == Stop::nodes);
  CHECK(few.nodes == 100);
  CHECK(check(few, requests) == "");
  CHECK(plan(requests, options).offsets == few.offsets);
  options.nodes = -1;
  options.seconds = 1e-9;
  const Plan late = plan(requests, options);
  CHECK(late.stop == Stop::time);
  CHECK(check(late, requests) == "");
}

TEST_CASE("search: requests with a fixed place lie there, the others around them") {
  int optimal = 0;
  for (unsigned seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    std::vector<Request> requests = testing::random_team(seed, 20, 2);
    const Plan free = plan(requests);
    for (std::size_t i = 0; i < requests.size(); i += 3) requests[i].at = free.offsets[i];
    const Plan fixed = plan(requests);
    CHECK(check(fixed, requests) == "");
    for (std::size_t i = 0; i < requests.size(); i += 3) {
      if (alive(requests[i])) CHECK(fixed.offsets[i] == free.offsets[i]);
    }
    optimal += fixed.arena_bytes == free.arena_bytes ? 1 : 0;
  }
  CHECK(optimal >= 195);
}

}  // namespace
}  // namespace poolgrad::memory

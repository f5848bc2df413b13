// The planner: sound on anything, at the bound on real steps, and clear about what it refuses.
#include "memory/plan.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "bench/requests/random_requests.h"
#include "bench/requests/smallest_arena.h"
#include "memory/plan_file.h"

namespace poolgrad::memory {
namespace {

constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();

void check_plan_of(const std::vector<Request>& requests, const PlanOptions& options = {}) {
  const Plan result = plan(requests, options);
  CHECK(check(result, requests, options.alignment) == "");
  CHECK(result.lower_bound_bytes == lower_bound(requests, options.alignment).bytes);
  CHECK(result.lower_bound_bytes <= result.arena_bytes);
  CHECK(result.arena_bytes <= sum_bytes(requests, options.alignment));
}

TEST_CASE(
    "plan: any plan of intervals is sound, no smaller than the bound, no larger than the sum") {
  for (unsigned seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    check_plan_of(testing::random_intervals(seed, 1 + seed % 60));
  }
}

TEST_CASE("plan: any plan of a team is sound, no smaller than the bound, no larger than the sum") {
  for (unsigned seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    check_plan_of(testing::random_team(seed, 1 + seed % 60, 1 + static_cast<int>(seed % 4)));
  }
}

TEST_CASE("plan: every alignment is kept, the plan's and a request's own") {
  for (unsigned seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    std::vector<Request> requests = testing::random_team(seed, 40, 2);
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (i % 3 == 0) requests[i].alignment = std::size_t{1} << (i + seed) % 13;
    }
    const PlanOptions options{.alignment = std::size_t{1} << seed % 9, .rounds = -1};
    const Plan result = plan(requests, options);
    CHECK(check(result, requests, options.alignment) == "");
    CHECK(result.arena_bytes >= result.lower_bound_bytes);
  }
}

TEST_CASE("plan: between the bound and the plan lies the smallest arena, by brute force") {
  int optimal = 0;
  for (unsigned seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    const std::vector<Request> requests = testing::crowded_requests(seed);
    const Plan result = plan(requests, {.alignment = 1, .rounds = -1, .nodes = 0});
    const std::size_t smallest = testing::smallest_arena(requests);
    CHECK(result.lower_bound_bytes <= smallest);
    CHECK(smallest <= result.arena_bytes);
    optimal += result.arena_bytes == smallest ? 1 : 0;
  }
  CHECK(optimal >= 280);  // greedy promises nothing, but this is what it does
}

TEST_CASE("plan: real training steps are planned at the bound") {
  std::string table;
  for (const auto& file : std::filesystem::directory_iterator(POOLGRAD_TEST_DATA "/plans")) {
    if (file.path().extension() != ".csv") continue;
    const std::string name = file.path().stem();
    CAPTURE(name);
    const std::vector<Request> requests = read_plan(file.path()).requests;
    const auto start = std::chrono::steady_clock::now();
    const Plan result = plan(requests);
    const std::chrono::duration<double, std::milli> ms = std::chrono::steady_clock::now() - start;
    CHECK(check(result, requests) == "");
    const double gap =
        static_cast<double>(result.arena_bytes) / static_cast<double>(result.lower_bound_bytes);
    const bool team = name.find("team") != std::string::npos;
    CHECK(gap <= (team ? 1.02 : 1.0));
    table += "\n  " + name + ": " + std::to_string(requests.size()) + " requests, bound " +
             std::to_string(result.lower_bound_bytes) + ", arena " +
             std::to_string(result.arena_bytes) + ", ratio " + std::to_string(gap) + ", " +
             std::to_string(ms.count()) + " ms";
  }
  MESSAGE(table);
}

TEST_CASE("plan: rounds of improvement reach what greedy alone misses") {
  const std::vector<Request> requests =
      read_plan(std::filesystem::path(POOLGRAD_TEST_DATA "/plans/lenet.lean.csv")).requests;
  const Plan greedy = plan(requests, {.alignment = kAlignment, .rounds = 0, .nodes = 0});
  CHECK(check(greedy, requests) == "");
  CHECK(!greedy.optimal());
  CHECK(plan(requests).optimal());
}

TEST_CASE("plan: equal requests give equal plans") {
  for (unsigned seed = 0; seed < 20; ++seed) {
    const std::vector<Request> requests = testing::random_team(seed, 80, 2);
    const Plan a = plan(requests);
    const Plan b = plan(requests);
    CHECK(a.offsets == b.offsets);
    CHECK(a.arena_bytes == b.arena_bytes);
    CHECK(a.witness == b.witness);
  }
}

TEST_CASE("plan: what is never alive costs nothing and lies at 0") {
  const std::vector<Request> requests{
      {.bytes = 100, .first = 0, .end = 4},
      {.bytes = 0, .first = 0, .end = 4},
      {.bytes = 100, .first = 2, .end = 2},
      {.bytes = 100, .first = 0, .end = 4, .member = kSeveral, .first_phase = 1, .end_phase = 1},
      {.bytes = kMost, .first = 3, .end = 3}};
  const Plan result = plan(requests);
  CHECK(result.arena_bytes == 128);
  CHECK(result.offsets == std::vector<std::size_t>(5, 0));
  CHECK(check(result, requests) == "");
  CHECK(plan({}).arena_bytes == 0);
  CHECK(plan({}).optimal());
}

TEST_CASE("plan: members are apart within a phase and share bytes across phases") {
  const Request a{.bytes = 64, .first = 0, .end = 1, .member = 0};
  const Request b{.bytes = 64, .first = 9, .end = 10, .member = 1};
  CHECK(plan(std::vector{a, b}).arena_bytes == 128);  // no common step, but no order either
  Request later = b;
  later.first_phase = 1;
  later.end_phase = 2;
  CHECK(plan(std::vector{a, later}).arena_bytes == 64);
  Request own = b;
  own.member = 0;
  CHECK(plan(std::vector{a, own}).arena_bytes == 64);
}

TEST_CASE("plan: two thousand random requests take no time to speak of") {
  const std::vector<Request> requests = testing::random_intervals(3, 2000);
  const auto start = std::chrono::steady_clock::now();
  check_plan_of(requests, {.alignment = kAlignment, .rounds = 0});
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  CHECK(seconds.count() < 5.0);  // 20 ms in release; sanitizers are slow
}

TEST_CASE("plan: refuses bad requests with the index, the values and the remedy") {
  const auto refuse = [](const Request& r, const std::string& what) {
    const std::vector<Request> requests{{.bytes = 1, .first = 0, .end = 1}, r};
    CHECK_THROWS_WITH_AS(static_cast<void>(plan(requests)), what.c_str(), std::invalid_argument);
    CHECK_THROWS_WITH_AS(static_cast<void>(lower_bound(requests)), what.c_str(),
                         std::invalid_argument);
    CHECK_THROWS_WITH_AS(static_cast<void>(sum_bytes(requests)), what.c_str(),
                         std::invalid_argument);
  };
  refuse({.bytes = 1, .first = 5, .end = 3},
         "plan: request 1 ends at step 3 before it begins at step 5; steps are half-open [first, "
         "end)");
  refuse({.bytes = 1, .first = 0, .end = 1, .member = 0, .first_phase = 2, .end_phase = 1},
         "plan: request 1 ends at phase 1 before it begins at phase 2; phases are half-open "
         "[first_phase, end_phase)");
  refuse({.bytes = 1, .first = 0, .end = 1, .member = -2},
         "plan: request 1 has member -2; members count from 0, and -1 means several");
  refuse({.bytes = 1, .first = 0, .end = 1, .alignment = 48},
         "plan: request 1 has alignment 48; it must be a power of two");
  refuse({.bytes = 1, .first = 0, .end = 1, .at = 96},
         "plan: request 1 is fixed at offset 96, which is no multiple of its alignment 64; give a "
         "multiple");
  refuse({.bytes = kMost / 2, .first = 0, .end = 1, .at = 64},
         "plan: request 1 of 9223372036854775807 bytes is fixed at offset 64 and ends beyond "
         "9223372036854775807; give a lower one");
  refuse({.bytes = kMost - 64, .first = 0, .end = 1},
         "plan: request 1 of 18446744073709551551 bytes brings the sum of all sizes beyond "
         "18446744073709551552; ask for less");
  CHECK_THROWS_WITH_AS(static_cast<void>(plan({}, {.alignment = 0, .rounds = -1})),
                       "plan: the plan has alignment 0; it must be a power of two",
                       std::invalid_argument);
}

TEST_CASE("plan: sizes near the largest number do not wrap around") {
  const std::vector<Request> requests{{.bytes = kMost / 2, .first = 0, .end = 2},
                                      {.bytes = kMost / 4, .first = 1, .end = 3},
                                      {.bytes = 1000, .first = 1, .end = 2}};
  check_plan_of(requests);
  const std::vector<Request> twice(2, {.bytes = kMost / 2 + 64, .first = 0, .end = 2});
  CHECK_THROWS_AS(static_cast<void>(plan(twice)), std::invalid_argument);
}

TEST_CASE("plan: the largest sizes, capacities and offsets are placed or refused") {
  PlanOptions bytes{.alignment = 1};
  const std::vector<Request> all{{.bytes = kMost, .first = 0, .end = 1}};
  CHECK_THROWS_AS(static_cast<void>(plan(all, bytes)), std::invalid_argument);
  const std::vector<Request> most{{.bytes = kMost - 1, .first = 0, .end = 1}};
  CHECK(plan(most, bytes).arena_bytes == kMost - 1);
  bytes.capacity = kMost;
  const std::vector<Request> small{{.bytes = 5, .first = 0, .end = 1}};
  CHECK(plan(small, bytes).arena_bytes == 5);
  CHECK(check(plan(small, bytes), small, 1) == "");

  std::vector<Request> high{{.bytes = 64, .first = 0, .end = 1, .at = kMost / 2 - 127},
                            {.bytes = kMost / 2 + 64, .first = 0, .end = 1}};
  CHECK_THROWS_WITH_AS(static_cast<void>(plan(high)),
                       "plan: request 0 is fixed at offset 9223372036854775680 and may leave too "
                       "little above it for all other requests; give a lower one or ask for less",
                       std::invalid_argument);
  high[1].bytes = kMost / 4;
  CHECK(check(plan(high), high) == "");
}

TEST_CASE("plan: times may be as far apart as there are numbers") {
  constexpr int kFirst = std::numeric_limits<int>::min(), kLast = std::numeric_limits<int>::max();
  for (const std::size_t count : {100U, 5000U}) {
    CAPTURE(count);
    std::vector<Request> requests(count, {.bytes = 64, .first = kFirst, .end = kLast});
    for (std::size_t i = 0; i < count; ++i) {
      requests[i].bytes += 64 * (i % 7);
      if (i % 3 == 0) requests[i].first = kLast - 1;
      if (i % 5 == 0) requests[i].end = kLast - 1;
      if (requests[i].first >= requests[i].end) requests[i] = {.bytes = 100, .first = 0, .end = 9};
    }
    check_plan_of(requests);
    requests[0].alignment = 4096;
    requests[1] = {.bytes = 9, .first = kLast, .end = kLast, .member = kSeveral};
    check_plan_of(requests);
  }
}

}  // namespace
}  // namespace poolgrad::memory

// The bound, against its definition: the heaviest set of requests that are pairwise alive together.
#include <vector>

#include <doctest/doctest.h>

#include "bench/requests/random_requests.h"
#include "memory/plan.h"

namespace poolgrad::memory {
namespace {

/// By trying every set.
std::size_t heaviest_set(const std::vector<Request>& requests) {
  std::size_t heaviest = 0;
  for (unsigned set = 0; set < 1U << requests.size(); ++set) {
    std::size_t bytes = 0;
    bool pairwise = true;
    for (std::size_t i = 0; i < requests.size() && pairwise; ++i) {
      if ((set >> i & 1U) == 0) continue;
      pairwise = alive(requests[i]);
      bytes += requests[i].bytes;
      for (std::size_t j = 0; j < i; ++j) {
        if ((set >> j & 1U) == 1) pairwise = pairwise && together(requests[i], requests[j]);
      }
    }
    if (pairwise) heaviest = std::max(heaviest, bytes);
  }
  return heaviest;
}

void check_witness(const std::vector<Request>& requests) {
  const Bound bound = lower_bound(requests);
  const std::vector<std::size_t> named = alive_at(requests, bound.witness);
  std::size_t bytes = 0;
  for (const std::size_t i : named) {
    bytes += aligned(requests[i].bytes);
    for (const std::size_t j : named) CHECK(together(requests[i], requests[j]));
  }
  CHECK(bytes == bound.bytes);
}

TEST_CASE("lower_bound: it is the heaviest set that is pairwise alive together") {
  for (unsigned seed = 0; seed < 400; ++seed) {
    CAPTURE(seed);
    const std::vector<Request> requests =
        seed % 2 == 0 ? testing::random_intervals(seed, 9)
                      : testing::random_team(seed, 9, 1 + static_cast<int>(seed % 3));
    CHECK(lower_bound(requests, 1).bytes == heaviest_set(requests));
  }
}

TEST_CASE("lower_bound: its witness names requests that prove it") {
  for (unsigned seed = 0; seed < 100; ++seed) {
    CAPTURE(seed);
    check_witness(testing::random_intervals(seed, 50));
    check_witness(testing::random_team(seed, 50, 1 + static_cast<int>(seed % 4)));
  }
}

TEST_CASE("lower_bound: with one member it is the most that is alive at one step") {
  const std::vector<Request> requests{{.bytes = 100, .first = 0, .end = 3},
                                      {.bytes = 10, .first = 2, .end = 5},
                                      {.bytes = 60, .first = 4, .end = 6}};
  const Bound bound = lower_bound(requests, 1);
  CHECK(bound.bytes == 110);
  CHECK(bound.witness == Witness{.phase = 0, .steps = {{.member = 0, .step = 2}}});
  CHECK(lower_bound(requests).bytes == 128 + 64);
}

TEST_CASE("lower_bound: a member's step may lie outside the phase it counts for") {
  // Member 0's two requests meet only in phase 0, but both last into phase 1, where the shared
  // request and member 1's are: member 0 may be anywhere in its list then.
  const std::vector<Request> requests{
      {.bytes = 1, .first = 0, .end = 2, .member = 0, .first_phase = 0, .end_phase = 2},
      {.bytes = 2, .first = 1, .end = 9, .member = 0, .first_phase = 0, .end_phase = 2},
      {.bytes = 4, .first = 7, .end = 8, .member = 1, .first_phase = 1, .end_phase = 2},
      {.bytes = 8, .first = 5, .end = 6, .member = kSeveral, .first_phase = 1, .end_phase = 2}};
  const Bound bound = lower_bound(requests, 1);
  CHECK(bound.bytes == 15);
  CHECK(bound.witness == Witness{.phase = 1, .steps = {{0, 1}, {1, 7}}});
}

TEST_CASE("lower_bound: nothing alive needs nothing") {
  CHECK(lower_bound({}).bytes == 0);
  CHECK(lower_bound(std::vector<Request>(3)).bytes == 0);
  CHECK(sum_bytes(std::vector<Request>(3)) == 0);
}

}  // namespace
}  // namespace poolgrad::memory

// Many intervals placed at once: sound, near the bound, and given up where that takes too long.
#include "memory/plan_wide.h"

#include <random>
#include <vector>

#include <doctest/doctest.h>

#include "memory/plan.h"

namespace poolgrad::memory {
namespace {

std::vector<Request> short_and_long(unsigned seed, unsigned count) {
  std::mt19937 random(seed);
  std::vector<Request> requests(count);
  for (Request& r : requests) {
    r.first = static_cast<int>(random() % count);
    const unsigned longest = random() % 16 == 0 ? count / 10 : 20;  // drawn before the length
    r.end = r.first + 1 + static_cast<int>(random() % longest);
    r.bytes = kAlignment * (1 + random() % 10'000);
  }
  return requests;
}

TEST_CASE("plan wide: intervals end near their bound without a common byte") {
  constexpr unsigned kSets = 20;
  double sum = 0;  // of arenas by their bounds
  for (unsigned seed = 0; seed < kSets; ++seed) {
    CAPTURE(seed);
    const std::vector<Request> requests = short_and_long(seed, 2000);
    PlanLimits limits(-1, 0);
    const auto wide = place_wide(items(requests, kAlignment), limits);
    REQUIRE(wide.has_value());
    Plan plan;
    for (const std::size_t offset : wide->offsets) plan.offsets.push_back(offset * kAlignment);
    plan.arena_bytes = wide->top * kAlignment;
    const Bound bound = lower_bound(requests);
    plan.lower_bound_bytes = plan.proved_bytes = bound.bytes;
    plan.witness = bound.witness;
    CHECK(check(plan, requests) == "");
    sum += static_cast<double>(plan.arena_bytes) / static_cast<double>(bound.bytes);
  }
  CHECK(sum / kSets < 1.06);  // one sweep through time: 1.09
}

TEST_CASE("plan wide: offsets that need more than 32 bits are left to others") {
  std::vector<Request> requests = short_and_long(1, 100);
  requests[7].bytes = kAlignment << 32U;
  PlanLimits limits(-1, 0);
  CHECK_FALSE(place_wide(items(requests, kAlignment), limits).has_value());
}

TEST_CASE("plan wide: the clock cuts it") {
  PlanLimits limits(-1, 1e-9);
  CHECK_FALSE(place_wide(items(short_and_long(2, 5000), kAlignment), limits).has_value());
}

}  // namespace
}  // namespace poolgrad::memory

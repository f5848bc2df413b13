// Plan items: requests checked and brought into the planner's own units. Internal to memory/.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "memory/plan.h"

namespace poolgrad::memory {

/// A request that is alive, measured in units of the plan's alignment.
struct Item {
  std::size_t request = 0;  // its place among the requests
  std::size_t size = 0;
  std::size_t alignment = 1;
  int first = 0;
  int end = 0;
  int first_phase = 0;
  int end_phase = 0;
  int member = 0;
  std::size_t at = kAnywhere;  // in units as well
};

/// Whether both may be alive at one moment.
[[nodiscard]] constexpr bool conflict(const Item& a, const Item& b) {
  if (a.member == b.member && a.member >= 0) return a.first < b.end && b.first < a.end;
  return a.first_phase < b.end_phase && b.first_phase < a.end_phase;
}

/// The live requests in their order. Throws std::invalid_argument as plan() promises, so that sums
/// of sizes, alignments included, can be taken without a further check.
[[nodiscard]] std::vector<Item> items(std::span<const Request> requests, std::size_t alignment);

}  // namespace poolgrad::memory

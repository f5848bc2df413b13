// Plan sweep: a plan for more requests than a quadratic planner can take. Internal to memory/.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "memory/plan_items.h"

namespace poolgrad::memory {

struct Sweep {
  std::vector<std::size_t> offsets;
  std::size_t top = 0;
};

/// Goes through time once and gives each item that begins a free gap; items that live long get
/// theirs from the bottom, the others from the top of what is free, for each of several ideas of
/// long. Items of a team count as alive for whole phases, which only errs on the safe side.
/// O(n log n) for each idea. No item may have a fixed place.
[[nodiscard]] Sweep sweep(std::span<const Item> items, std::size_t goal);

}  // namespace poolgrad::memory

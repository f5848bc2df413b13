// Plan pack: intervals below a capacity, by several searches in turn. Internal to memory/.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "memory/plan_limits.h"
#include "memory/plan_search.h"

namespace poolgrad::memory {

struct Packing {
  Found found = Found::limit;
  std::vector<std::int64_t> offsets;  // one per piece, when found == Found::plan
};

/// Places `pieces` below `capacity`, or proves that they do not fit, within `nodes` trials. Run
/// times have heavy tails, so pieces as they are and pieces joined take turns with growing numbers
/// of trials. Independent of the order of `pieces` and of the unit of sizes.
[[nodiscard]] Packing pack(std::span<const Piece> pieces, std::int64_t capacity, std::int64_t nodes,
                           PlanLimits& limits);

}  // namespace poolgrad::memory

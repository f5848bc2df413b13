// Plan wide: very many intervals, those among the most bytes first. Internal to memory/.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "memory/plan_items.h"
#include "memory/plan_limits.h"

namespace poolgrad::memory {

struct Wide {
  std::vector<std::size_t> offsets;  // one per item
  std::size_t top = 0;
};

/// Places intervals one by one in the lowest gap, those first that live when most bytes
/// are alive. Looks only at what may be alive together with an item: with n items of which k are
/// alive together with each, O(n k log k). Nothing where that would take too long or the
/// offsets would not fit into 32 bits.
[[nodiscard]] std::optional<Wide> place_wide(std::span<const Item> items, PlanLimits& limits);

}  // namespace poolgrad::memory

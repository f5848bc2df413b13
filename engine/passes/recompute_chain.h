// Choices of what to make again by dynamic programming, where the forward pass is a chain. Only
// recompute_choices.cpp asks.
#pragma once

#include "engine/passes/recompute_estimate.h"

namespace poolgrad::passes {

/// From all that is kept to the fewest bytes between the passes, with the least time for each;
/// nothing where some value is made of several others, or the backward pass is not in the order of
/// the chain. `nodes`: whose results are worth a decision, in order.
[[nodiscard]] std::vector<Choice> chain_choices(const Walk& walk, Estimator& estimator,
                                                const std::vector<int>& nodes, int members);

}  // namespace poolgrad::passes

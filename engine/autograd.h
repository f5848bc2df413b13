// differentiate(): appends the backward nodes. They are like any others: nothing here is special
// later.
#pragma once

#include "engine/graph.h"

namespace poolgrad {

/// d loss / d wanted[i] · seed, in the order of `wanted`, empty where the loss does not depend on
/// it. Only nodes between the two are differentiated. `seed` is the gradient of the loss itself, a
/// scalar like it: 1, or a loss scale. Throws ShapeError when loss is no scalar, or when an op on
/// the way has no backward().
[[nodiscard]] std::vector<Tensor> differentiate(Tensor loss, std::span<const Tensor> wanted,
                                                Tensor seed);

}  // namespace poolgrad

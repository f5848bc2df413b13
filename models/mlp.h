// mlp: linear layers with ReLU between them.
#pragma once

#include <span>

#include "layers/layer.h"

namespace poolgrad::models {

/// Samples [n, ...] of `inputs` numbers each -> logits [n, classes], with a hidden layer for each
/// width: torch.nn.Sequential(Linear, ReLU, ..., Linear) after x.flatten(1), names and all. No
/// width: one linear layer. Throws ArgumentError for a width below 1.
[[nodiscard]] layers::Layer mlp(std::int64_t inputs, std::span<const std::int64_t> hidden,
                                std::int64_t classes, std::uint64_t seed = 0);

}  // namespace poolgrad::models

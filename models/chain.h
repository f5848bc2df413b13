// chain: equal convolutions in a row, for what grows with depth alone.
#pragma once

#include "layers/layer.h"

namespace poolgrad::models {

/// Images [n, c, h, w] -> logits [n, classes], c at the first call: `depth` times a 3 by 3
/// convolution of `width` channels and ReLU, then the mean of each channel and a linear layer.
/// Names are those of torch.nn.Sequential(Conv2d, ReLU, Conv2d, ..., AdaptiveAvgPool2d(1), Flatten,
/// Linear). Weights of convolutions begin larger than PyTorch's, so that values keep their size
/// over any depth (He et al., 2015, section 2.2). Nothing
/// normalizes them later: 32 convolutions learn with Adam at a rate of 3e-4, not at 1e-3. Throws
/// ArgumentError for settings below 1.
[[nodiscard]] layers::Layer chain(std::int64_t depth = 32, std::int64_t width = 16,
                                  std::int64_t classes = 10, std::uint64_t seed = 0);

}  // namespace poolgrad::models

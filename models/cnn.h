// cnn: two convolutions, two linear layers. The one the benches compare.
#pragma once

#include "layers/layer.h"

namespace poolgrad::models {

/// Of one image.
struct CnnInput {
  std::int64_t channels = 1, height = 28, width = 28;
};

/// Images [n, channels, height, width] -> logits [n, classes]: torch.nn.Sequential(Conv2d(channels,
/// 32, 3, padding=1), ReLU, MaxPool2d(2), Conv2d(32, 64, 3, padding=1), ReLU, MaxPool2d(2),
/// Flatten, Linear(64 · height/4 · width/4, 128), ReLU, Linear(128, classes)), names and all.
/// Throws ArgumentError for images smaller than 4 by 4.
[[nodiscard]] layers::Sequential cnn(const CnnInput& input = {}, std::int64_t classes = 10,
                                     std::uint64_t seed = 0);

}  // namespace poolgrad::models

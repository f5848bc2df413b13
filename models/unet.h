// unet: down to a quarter of the height and width and up again, with ways across.
#pragma once

#include "layers/layer.h"

namespace poolgrad::models {

/// Images [n, c, h, w] -> logits [n, classes], c at the first call; h and w are multiples of 4. Two
/// stages halve the image by max-pooling, a middle one works on a quarter of it, and two double it
/// by nearest upsampling, each going on with what it gets next to what the stage of its size has
/// made on the way down; then the mean of each channel and a linear layer. A stage is twice a 3 by
/// 3 convolution and ReLU, of width, 2 · width, 4 · width, 2 · width and width channels
/// (Ronneberger et al., 2015, smaller, padded, and with a head that classifies).
///
/// Names: down1, down2, middle, up2, up1 (each Sequential of Conv2d, ReLU, Conv2d, ReLU) and fc.
/// Weights of convolutions begin as that paper says, larger than PyTorch's. Throws ArgumentError
/// for settings below 1, and when called ShapeError for h or w that is no multiple of 4.
[[nodiscard]] layers::Layer unet(std::int64_t width = 16, std::int64_t classes = 10,
                                 std::uint64_t seed = 0);

}  // namespace poolgrad::models

// resnet: a stem and three stages of residual blocks, for small images.
#pragma once

#include "layers/layer.h"

namespace poolgrad::models {

/// Images [n, c, h, w] -> logits [n, classes], c at the first call. After a 3 by 3 convolution of
/// `width` channels come three stages of `blocks` blocks each with width, 2 · width and 4 · width
/// channels, the second and third at half the height and width; then the mean of each channel and a
/// linear layer. A block is relu(bn2(conv2(relu(bn1(conv1(x))))) + x), where x goes through a 1 by
/// 1 convolution and a batch norm when its shape changes. 3 blocks of width 16 are ResNet-20 (He et
/// al., 2015, section 4.2, with projections).
///
/// Names are torchvision's: torch's module with the same state_dict has conv1, bn1, layer1, layer2,
/// layer3 (each Sequential of blocks with conv1, bn1, conv2, bn2 and perhaps downsample, a
/// Sequential of the two) and fc; convolutions have no bias. Throws ArgumentError for settings
/// below 1 and for more than 200 blocks.
[[nodiscard]] layers::Layer resnet(std::int64_t blocks = 2, std::int64_t width = 16,
                                   std::int64_t classes = 10, std::uint64_t seed = 0);

}  // namespace poolgrad::models

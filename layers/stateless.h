// Layers that learn nothing: activations, dropout, pools, upsampling, flatten. Each is one op.
#pragma once

#include "engine/ops.h"
#include "layers/layer.h"

namespace poolgrad::layers {

/// max(x, 0), any shape.
struct ReLU {
  Tensor operator()(Graph&, Tensor x, bool) const { return relu(x); }
};

/// Training drops each element with probability `p` and scales the others by 1 / (1 − p); use
/// passes x through.
struct Dropout {
  double p = 0.5;
  std::uint64_t seed = 0;
  Tensor operator()(Graph&, Tensor x, bool training) const {
    return training ? dropout(x, p, seed) : x;
  }
};

/// [n, a, b, ...] -> [n, a·b·...], in row-major order of the logical shape.
struct Flatten {
  Tensor operator()(Graph&, Tensor x, bool) const { return flatten(x); }
};

/// [n, c, h, w] -> [n, c, oh, ow]; windows of 2 by 2, side by side, when nothing else is said.
struct MaxPool2d {
  Pool2d settings{};
  Tensor operator()(Graph&, Tensor x, bool) const { return max_pool2d(x, settings); }
};

/// As MaxPool2d, with means; padding counts as zeros.
struct AvgPool2d {
  Pool2d settings{};
  Tensor operator()(Graph&, Tensor x, bool) const { return avg_pool2d(x, settings); }
};

/// [n, c, h, w] -> [n, c, h · factor, w · factor], nearest: torch.nn.Upsample(scale_factor=factor).
struct Upsample {
  std::int32_t factor = 2;
  Tensor operator()(Graph&, Tensor x, bool) const {
    return upsample_nearest2d(x, {factor, factor});
  }
};

/// [n, c, h, w] -> [n, c, 1, 1]: torch.nn.AdaptiveAvgPool2d(1).
struct GlobalAvgPool2d {
  Tensor operator()(Graph&, Tensor x, bool) const { return global_avg_pool2d(x); }
};

}  // namespace poolgrad::layers

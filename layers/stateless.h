// Layers that learn nothing: activations, pools, flatten. Each is one op.
#pragma once

#include "engine/ops.h"
#include "layers/layer.h"

namespace poolgrad::layers {

/// max(x, 0), any shape.
struct ReLU {
  Tensor operator()(Graph&, Tensor x, bool) const { return relu(x); }
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

/// [n, c, h, w] -> [n, c, 1, 1]: torch.nn.AdaptiveAvgPool2d(1).
struct GlobalAvgPool2d {
  Tensor operator()(Graph&, Tensor x, bool) const { return global_avg_pool2d(x); }
};

}  // namespace poolgrad::layers

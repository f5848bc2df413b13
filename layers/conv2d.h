// Conv2d: as torch.nn.Conv2d with zero padding.
#pragma once

#include "engine/ops.h"
#include "layers/layer.h"

namespace poolgrad::layers {

/// sqrt(6): a uniform weight keeps the mean square of what goes through it and a ReLU (He et al.,
/// 2015). PyTorch's default, 1, lets it shrink to a sixth.
inline constexpr float kGainOfReLU = 2.44948974F;

/// [n, inputs, h, w] -> [n, outputs, oh, ow]. "weight" is [outputs, inputs / groups, kh, kw],
/// "bias" [outputs]; both begin uniform in ±1/sqrt(inputs / groups · kh · kw), the weight times
/// `gain`. Throws ShapeError for channels that do not fit x or cannot be shared out among the
/// groups.
struct Conv2d {
  std::int64_t inputs = 0, outputs = 0;
  std::array<std::int64_t, 2> kernel{3, 3};
  poolgrad::Conv2d settings{};  // stride, padding, dilation, groups
  std::uint64_t seed = 0;
  bool bias = true;
  float gain = 1.0F;

  Tensor operator()(Graph& graph, Tensor x, bool training) const;
};

}  // namespace poolgrad::layers

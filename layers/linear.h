// Linear: x · weight transposed + bias, as torch.nn.Linear.
#pragma once

#include "layers/layer.h"

namespace poolgrad::layers {

/// [n, inputs] -> [n, outputs]. "weight" is [outputs, inputs], "bias" [outputs]; both begin uniform
/// in ±1/sqrt(inputs). Throws ShapeError when x has another number of columns.
struct Linear {
  std::int64_t inputs = 0, outputs = 0;
  std::uint64_t seed = 0;
  bool bias = true;

  Tensor operator()(Graph& graph, Tensor x, bool training) const;
};

}  // namespace poolgrad::layers

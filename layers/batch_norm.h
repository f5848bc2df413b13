// BatchNorm2d: as torch.nn.BatchNorm2d with weights and running statistics.
#pragma once

#include "engine/ops.h"
#include "layers/layer.h"

namespace poolgrad::layers {

/// [n, features, h, w] -> the same shape, each channel with mean 0 and variance 1, times "weight",
/// plus "bias"; both are [features] and begin as 1 and 0. For training by the statistics of the
/// batch, which move "running_mean", "running_var" and "num_batches_tracked" in column
/// "statistics"; for use by the running ones. Throws ShapeError where x has other channels.
struct BatchNorm2d {
  std::int64_t features = 0;
  BatchNorm settings{};  // epsilon, momentum

  Tensor operator()(Graph& graph, Tensor x, bool training) const;
};

}  // namespace poolgrad::layers

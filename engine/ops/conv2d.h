// The kernels of conv2d, three times: by Winograd's tiles, by oneDNN, and by products of unfolded
// images. conv2d.cpp has the definitions and chooses.
#pragma once

#include "engine/ops.h"

namespace poolgrad::convolution {

/// Extents of x [n, c, h, w], channels-last, weight [o, c / groups, kh, kw], dense, and y [n, o,
/// oh, ow], channels-last.
struct Problem {
  Conv2d settings;
  Spec x, weight, y;
  bool bias = false;

  [[nodiscard]] std::int64_t groups() const { return settings.groups; }
  [[nodiscard]] std::int64_t in_channels() const { return weight.shape[1]; }  // of a group
  [[nodiscard]] std::int64_t out_channels() const { return y.shape[1] / groups(); }
};

/// Which inputs and outputs a kernel's operands are; a bias or its gradient follows the weight or
/// its. forward: x, weight, bias -> y. data: dy, weight -> dx. weights: x, dy -> dweight, dbias;
/// with `add` dweight and dbias come first, and are added to.
Kernel forward_unfolded(const Problem& problem);
Kernel data_unfolded(const Problem& problem);
Kernel weights_unfolded(const Problem& problem, bool add);

/// Nothing where tiles do not fit, or would not pay by a count of operations.
std::optional<Kernel> forward_winograd(const Problem& problem);
std::optional<Kernel> data_winograd(const Problem& problem);
std::optional<Kernel> weights_winograd(const Problem& problem, bool add);

/// Nothing where this build has no oneDNN, or oneDNN its reference implementation only.
std::optional<Kernel> forward_onednn(const Problem& problem);
std::optional<Kernel> data_onednn(const Problem& problem);
std::optional<Kernel> weights_onednn(const Problem& problem, bool add);

}  // namespace poolgrad::convolution

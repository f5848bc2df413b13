// conv2d and its gradients as graphs of cuDNN. What stands before and after a call is conv2d.cpp.
#pragma once

#include "engine/cuda/cudnn_graph.h"
#include "engine/ops.h"

namespace poolgrad::cuda {

enum class Pass : std::uint8_t { forward, data, weights };

/// x [n, c, h, w] and y [n, o, oh, ow], or their gradients, are channels-last; the weight or its
/// gradient [o, c / groups, kh, kw] may be. All of one dtype: f32, f16 or bf16; sums are f32.
struct Convolution {
  Pass pass = Pass::forward;
  Conv2d settings;
  Shape x, weight, y;
  DType dtype = DType::f32;
  Layout weight_layout = Layout::channels_last;
  bool bias = false;  // [o], forward: added before settings.relu
};

/// The numbers of a convolution's tensors in its plan.
enum Operand : std::int64_t { kX = 1, kWeight, kY, kBias };

/// Nothing where cuDNN has no engine for all of it that the wishes allow; without bias and ReLU
/// there may be one. `alignment`: of all addresses, in bytes.
[[nodiscard]] std::optional<EnginePlan> plan(const Target& target, const Convolution& convolution,
                                             const Wishes& wishes, std::int64_t alignment);

}  // namespace poolgrad::cuda

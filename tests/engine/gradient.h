// Gradients against central differences.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "engine/graph.h"

namespace poolgrad::testing {

/// The largest gap between the gradient of a weighted sum of build(inputs) and its central
/// differences, relative to the largest gradient of that input, over up to 60 values of each input.
/// Kernels are f32, differences are taken in f64. Inputs are spread() by `spacing`, the step is a
/// third of it; labels are 0, 1, 2, 0, ...
[[nodiscard]] double gradient_gap(const std::function<Tensor(std::span<const Tensor>)>& build,
                                  const std::vector<Shape>& shapes, unsigned seed,
                                  float spacing = 0.05F);
/// For an op of one input: gradient_gap(relu, {3, 5}, 7).
[[nodiscard]] double gradient_gap(const std::function<Tensor(Tensor)>& build, const Shape& shape,
                                  unsigned seed);

}  // namespace poolgrad::testing

// What the backward() of an op with a fused ReLU needs.
#pragma once

#include "engine/graph.h"

namespace poolgrad {

/// dy where y > 0, else 0: the gradient of y = relu(x), from y.
Tensor relu_grad(Tensor y, Tensor dy);

/// A bit per value of y, set where it is above 0: all that the gradient needs to know of y. Of a
/// row of y, as it lies there, a row of bytes is made, [rows, bytes]; the first value is the lowest
/// bit.
Tensor relu_signs(Tensor y);

/// relu_grad from the signs of y.
Tensor relu_grad_by_signs(Tensor signs, Tensor dy);

extern const OpDef kReluGrad, kReluSigns, kReluGradBySigns;  // for the pass that swaps them

}  // namespace poolgrad

// What the backward() of an op with a fused ReLU needs.
#pragma once

#include "engine/graph.h"

namespace poolgrad {

/// dy where y > 0, else 0: the gradient of y = relu(x), from y.
Tensor relu_grad(Tensor y, Tensor dy);

}  // namespace poolgrad

// The update ops of the optimizers, one builder each. Which tensors they are given is
// minimize.cpp's business. All inputs of one update have one shape; a whole column, packed, is one
// tensor too.
#pragma once

#include "engine/graph.h"
#include "train/optimizer.h"

namespace poolgrad::train {

/// The weight after one step. `momentum` is changed too; it is empty exactly when the settings have
/// none. `rate` is a scalar (f32) and stands for Sgd::rate. Throws ShapeError.
Tensor sgd(Tensor weight, Tensor momentum, Tensor gradient, Tensor rate, const Sgd& settings);

/// The weight after one step; both moments are changed too. `step` (i64, scalar) is how many steps
/// were done before. Throws ShapeError.
Tensor adam(Tensor weight, Tensor first, Tensor second, Tensor gradient, Tensor rate, Tensor step,
            const Adam& settings);
Tensor adamw(Tensor weight, Tensor first, Tensor second, Tensor gradient, Tensor rate, Tensor step,
             const AdamW& settings);

/// step + 1, in place.
Tensor tick(Tensor step);

/// Their CUDA kernels (updates.cu).
Kernel sgd_cuda(const Site& site);
Kernel sgd_momentum_cuda(const Site& site);
Kernel adam_cuda(const Site& site);
Kernel adamw_cuda(const Site& site);
Kernel tick_cuda(const Site& site);

/// What infer() of every update checks: the first `count` inputs are f32 of one shape.
void check_same_shapes(std::string_view op, const Site& site, std::size_t count);

}  // namespace poolgrad::train

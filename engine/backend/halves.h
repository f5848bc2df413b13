// Kernels for f32 on tensors of f16 and bf16: what is read is made wider in the workspace, what is
// written is rounded once. Every op works on halves that way, and none has code for it.
#pragma once

#include <functional>

#include "engine/op.h"

namespace poolgrad::halves {

/// `count` values of f16 or bf16 as floats.
void widen(DType dtype, const void* from, float* to, std::int64_t count);

/// `count` floats, each rounded to the nearest f16 or bf16.
void narrow(DType dtype, const float* from, void* to, std::int64_t count);

/// Whether an operand is f16 or bf16.
[[nodiscard]] bool any(const Site& site);

/// The kernel of `op` at a site with halves, around the one that `make` answers for the same site
/// in f32.
[[nodiscard]] Kernel kernel(const OpDef& op, const Site& site,
                            const std::function<Kernel(const Site&)>& make);

}  // namespace poolgrad::halves

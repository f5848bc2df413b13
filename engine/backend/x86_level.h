// Which copy of a kernel runs where files are compiled once per instruction set. Loops that the
// compiler copies by itself are in loops.h.
#pragma once

namespace poolgrad {

/// The x86-64 level of this processor, among those that kernels are compiled for: 4 (AVX-512), 3
/// (AVX2, FMA) or 1; 1 on other processors.
[[nodiscard]] int x86_level();

}  // namespace poolgrad

// What kernels found wrong, as an error.
#pragma once

#include "engine/cuda/context.h"

namespace poolgrad::cuda {

/// Whether a kernel has reported something, or is about to.
[[nodiscard]] bool reported(Fault& fault);

/// Throws it as the ArgumentError of the CPU's kernels, and forgets it. To be called when the
/// kernels are done.
[[noreturn]] void throw_fault(Fault& fault);

}  // namespace poolgrad::cuda

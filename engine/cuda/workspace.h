// Workspaces on a device: libraries expect them on more bytes than the planner aligns to.
#pragma once

#include <utility>

#include "engine/cuda/context.h"
#include "engine/op.h"

namespace poolgrad::cuda {

/// The kernel, which finds its workspace on kWorkspaceAlignment bytes wherever the planner or a
/// pool has put it: it asks for as many more as that may take.
[[nodiscard]] inline Kernel with_aligned_workspace(Kernel kernel) {
  if (kernel.workspace_bytes == 0) return kernel;
  kernel.workspace_bytes += kWorkspaceAlignment - memory::kAlignment;
  kernel.run = [run = std::move(kernel.run)](const Args& a) {
    const auto address = reinterpret_cast<std::uintptr_t>(*a.scratch);
    void* const workspace = static_cast<std::byte*>(*a.scratch) +
                            (memory::aligned(address, kWorkspaceAlignment) - address);
    run({a.inputs, a.outputs, &workspace});
  };
  return kernel;
}

}  // namespace poolgrad::cuda

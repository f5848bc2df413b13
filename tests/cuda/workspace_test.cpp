// Where a device's kernels find their workspace.
#include "engine/cuda/workspace.h"

#include <array>

#include <doctest/doctest.h>

namespace poolgrad {
namespace {

TEST_CASE("workspace: it lies on as many bytes as libraries expect, inside of what was asked for") {
  constexpr std::size_t kBytes = 100;
  std::byte* seen = nullptr;
  const Kernel kernel =
      cuda::with_aligned_workspace({[&](const Args& a) { seen = a.workspace(); }, kBytes});
  alignas(cuda::kWorkspaceAlignment) std::array<std::byte, 1024> block{};
  for (std::size_t at = 0; at < 512; at += memory::kAlignment) {
    void* scratch = block.data() + at;
    kernel.run({nullptr, nullptr, &scratch});
    CHECK(reinterpret_cast<std::uintptr_t>(seen) % cuda::kWorkspaceAlignment == 0);
    CHECK(seen >= scratch);
    CHECK(seen + kBytes <= block.data() + at + kernel.workspace_bytes);
  }
}

TEST_CASE("workspace: a kernel that needs none gets none") {
  CHECK(cuda::with_aligned_workspace({[](const Args&) {}, 0}).workspace_bytes == 0);
}

}  // namespace
}  // namespace poolgrad

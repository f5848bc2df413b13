// System: how much memory this process may still take. What to do with it is not here.
#pragma once

#include <cstddef>
#include <filesystem>

namespace poolgrad::memory {

/// The smaller of what the machine has available and what the process's control groups (v2 or v1)
/// leave of their limits, in bytes. Pages the system can drop at need count as free in both.
/// SIZE_MAX when neither can be read. `root` is where the system's files begin: for tests.
[[nodiscard]] std::size_t available_bytes(const std::filesystem::path& root = "/");

}  // namespace poolgrad::memory

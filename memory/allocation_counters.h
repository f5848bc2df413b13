// The process-wide counters between those who count and those who read. Internal to memory/.
#pragma once

#include <atomic>
#include <cstddef>

namespace poolgrad::memory::detail {

/// A global by nature: malloc has no argument to carry it. Ready before any constructor runs.
struct AllocationCounters {
  std::atomic<std::size_t> ours{0};
  std::atomic<std::size_t> library{0};
  std::atomic<std::size_t> ours_bytes{0};
  std::atomic<std::size_t> library_bytes{0};
  std::atomic<std::size_t> largest_library_bytes{0};
  std::atomic<std::size_t> mmaps{0};
  std::atomic<bool> linked{false};
};

extern constinit AllocationCounters allocation_counters;

}  // namespace poolgrad::memory::detail

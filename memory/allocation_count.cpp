// The counters and how they are read. Who moves them is count_allocations.cpp, if linked.
#include "memory/allocation_count.h"

#include "memory/allocation_counters.h"

namespace poolgrad::memory {

namespace detail {
constinit AllocationCounters allocation_counters;
}

using detail::allocation_counters;

bool counting() { return allocation_counters.linked; }

AllocationCounts allocation_counts() {
  return {.ours = allocation_counters.ours,
          .library = allocation_counters.library,
          .ours_bytes = allocation_counters.ours_bytes,
          .library_bytes = allocation_counters.library_bytes,
          .largest_library_bytes = allocation_counters.largest_library_bytes,
          .mmaps = allocation_counters.mmaps};
}

AllocationWindow::AllocationWindow() {
  allocation_counters.largest_library_bytes = 0;
  begin_ = allocation_counts();
}

AllocationCounts AllocationWindow::counts() const {
  const AllocationCounts now = allocation_counts();
  return {.ours = now.ours - begin_.ours,
          .library = now.library - begin_.library,
          .ours_bytes = now.ours_bytes - begin_.ours_bytes,
          .library_bytes = now.library_bytes - begin_.library_bytes,
          .largest_library_bytes = now.largest_library_bytes,
          .mmaps = now.mmaps - begin_.mmaps};
}

}  // namespace poolgrad::memory

// Allocation counts: how often the whole process went to malloc or mmap, and for whom. The
// functions that count (count_allocations.cpp) are linked only into programs that want it;
// elsewhere all is 0.
#pragma once

#include <cstddef>

namespace poolgrad::memory {

/// Calls of malloc, calloc, realloc, the aligned ones and operator new through them, and of mmap.
/// Library: made while the calling thread was marked with InLibrary. Ours: all others. An allocator
/// that is preloaded may bring its own operator new; that one is not seen.
struct AllocationCounts {
  std::size_t ours = 0;
  std::size_t library = 0;
  std::size_t ours_bytes = 0;
  std::size_t library_bytes = 0;
  std::size_t largest_library_bytes = 0;
  std::size_t mmaps = 0;  // of the calls above; malloc's own use of mmap is not seen
};

/// Whether this program counts: the counting functions are linked in and not under a sanitizer.
[[nodiscard]] bool counting();

/// Since the process began.
[[nodiscard]] AllocationCounts allocation_counts();

/// What was allocated since the window was made. The largest is right for one window at a time.
class AllocationWindow {
 public:
  AllocationWindow();
  [[nodiscard]] AllocationCounts counts() const;

 private:
  AllocationCounts begin_;
};

namespace detail {
inline constinit thread_local int in_library = 0;
}  // namespace detail

/// Marks the calling thread: until the mark dies, it allocates for a library. May be nested.
class InLibrary {
 public:
  InLibrary() noexcept { ++detail::in_library; }
  InLibrary(const InLibrary&) = delete;
  InLibrary& operator=(const InLibrary&) = delete;
  ~InLibrary() { --detail::in_library; }
};

}  // namespace poolgrad::memory

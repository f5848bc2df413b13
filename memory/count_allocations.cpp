// Counts every malloc and mmap of the process and forwards to the next in line: the C library's, or
// a preloaded allocator's. Linked only where counting is wanted, never into allocator comparisons.
// Under a sanitizer, which brings its own malloc, there is nothing here.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define POOLGRAD_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define POOLGRAD_SANITIZED
#endif

#ifndef POOLGRAD_SANITIZED

#include <cerrno>
#include <cstddef>
#include <cstdlib>

#include <dlfcn.h>
#include <sys/mman.h>

#include "memory/allocation_count.h"
#include "memory/allocation_counters.h"

namespace {

using poolgrad::memory::detail::allocation_counters;
using poolgrad::memory::detail::in_library;

/// The functions behind ours. Filled at the first call, which comes long before main().
struct Next {
  decltype(&std::malloc) malloc = nullptr;
  decltype(&std::calloc) calloc = nullptr;
  decltype(&std::realloc) realloc = nullptr;
  decltype(&::aligned_alloc) aligned_alloc = nullptr;
  decltype(&::posix_memalign) posix_memalign = nullptr;
  void* (*memalign)(std::size_t, std::size_t) = nullptr;
  decltype(&::mmap) mmap = nullptr;
};

Next next;
thread_local bool looking_up = false;

template <typename Function>
void look_up(Function& function, const char* name) {
  function = reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
  if (function == nullptr) std::abort();
}

/// False while dlsym itself asks for memory: it goes on without when told there is none.
bool ready() {
  if (allocation_counters.linked.load(std::memory_order_acquire)) return true;
  if (looking_up) return false;
  looking_up = true;
  look_up(next.malloc, "malloc");
  look_up(next.calloc, "calloc");
  look_up(next.realloc, "realloc");
  look_up(next.aligned_alloc, "aligned_alloc");
  look_up(next.posix_memalign, "posix_memalign");
  look_up(next.memalign, "memalign");
  look_up(next.mmap, "mmap");
  looking_up = false;
  allocation_counters.linked.store(true, std::memory_order_release);
  return true;
}

void add(std::atomic<std::size_t>& counter, std::size_t value) {
  counter.fetch_add(value, std::memory_order_relaxed);
}

void count(std::size_t bytes) {
  if (in_library == 0) {
    add(allocation_counters.ours, 1);
    add(allocation_counters.ours_bytes, bytes);
    return;
  }
  add(allocation_counters.library, 1);
  add(allocation_counters.library_bytes, bytes);
  std::atomic<std::size_t>& largest = allocation_counters.largest_library_bytes;
  std::size_t seen = largest.load(std::memory_order_relaxed);
  while (seen < bytes && !largest.compare_exchange_weak(seen, bytes, std::memory_order_relaxed)) {
  }
}

void* map(void* address, std::size_t bytes, int protection, int flags, int file, off_t offset) {
  if (!ready()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  count(bytes);
  add(allocation_counters.mmaps, 1);
  return next.mmap(address, bytes, protection, flags, file, offset);
}

}  // namespace

// free is not here: it is the same as ever, and what is allocated comes from its own library.
extern "C" {

void* malloc(std::size_t bytes) {
  if (!ready()) return nullptr;
  count(bytes);
  return next.malloc(bytes);
}

void* calloc(std::size_t number, std::size_t bytes) {
  if (!ready()) return nullptr;
  count(number * bytes);
  return next.calloc(number, bytes);
}

void* realloc(void* data, std::size_t bytes) {
  if (!ready()) return nullptr;
  count(bytes);
  return next.realloc(data, bytes);
}

void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  if (!ready()) return nullptr;
  count(bytes);
  return next.aligned_alloc(alignment, bytes);
}

int posix_memalign(void** data, std::size_t alignment, std::size_t bytes) {
  if (!ready()) return ENOMEM;
  count(bytes);
  return next.posix_memalign(data, alignment, bytes);
}

void* memalign(std::size_t alignment, std::size_t bytes) {
  if (!ready()) return nullptr;
  count(bytes);
  return next.memalign(alignment, bytes);
}

void* mmap(void* address, std::size_t bytes, int protection, int flags, int file, off_t offset) {
  return map(address, bytes, protection, flags, file, offset);
}

void* mmap64(void* address, std::size_t bytes, int protection, int flags, int file,
             off64_t offset) {
  return map(address, bytes, protection, flags, file, offset);
}

}  // extern "C"

#endif  // POOLGRAD_SANITIZED

// The host's resources: malloc, pages from the system, and others' resources. CUDA's are not here.
#include "memory/resource.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <limits>

#include <sys/mman.h>

namespace poolgrad::memory {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20U;

std::uintptr_t address(const void* data) { return reinterpret_cast<std::uintptr_t>(data); }

[[noreturn]] void fail(const char* resource, std::size_t bytes) {
  throw OutOfMemory(std::string(resource) + ": the system refused " + std::to_string(bytes) +
                        " bytes; free memory or ask for less",
                    bytes);
}

/// mimalloc before 2.1 and libstdc++'s pools before GCC 15 do so for some sizes.
[[noreturn]] void fail_off(const char* who, std::size_t bytes, std::size_t alignment) {
  throw OutOfMemory(std::string(who) + " was asked for " + std::to_string(bytes) + " bytes on " +
                        std::to_string(alignment) +
                        " and gave an address off that alignment; use another allocator",
                    bytes);
}

/// Whole pages for `bytes`, at least one. 0 when there are no such numbers.
std::size_t page_bytes(std::size_t bytes) {
  return checked_aligned(std::max<std::size_t>(bytes, 1), kPage).value_or(0);
}

}  // namespace

void* HostResource::allocate_on(Stream, std::size_t bytes, std::size_t alignment) {
  void* data = nullptr;
  const std::size_t wanted = std::max<std::size_t>(bytes, 1);
  if (::posix_memalign(&data, std::max(alignment, sizeof(void*)), wanted) != 0) fail("host", bytes);
  if (address(data) % alignment == 0) return data;
  std::free(data);
  fail_off("host: malloc", bytes, alignment);
}

void HostResource::deallocate_on(Stream, void* data, std::size_t, std::size_t) { std::free(data); }

void* HugePageResource::allocate_on(Stream, std::size_t bytes, std::size_t alignment) {
  const std::size_t size = page_bytes(bytes);
  const std::size_t begin_on = std::max(alignment, size >= kHugePage ? kHugePage : kPage);
  const std::size_t spare = begin_on - kPage;  // cut off again on both sides
  if (size == 0 || size > std::numeric_limits<std::size_t>::max() - spare)
    fail("huge pages", bytes);

  void* mapped =
      ::mmap(nullptr, size + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) fail("huge pages", bytes);
  auto* const first = static_cast<std::byte*>(mapped);
  const std::size_t before = aligned(address(first), begin_on) - address(first);
  if (before > 0) ::munmap(first, before);
  if (spare > before) ::munmap(first + before + size, spare - before);
  // Only advice: a system without huge pages goes on with small ones.
  if (size >= kHugePage) ::madvise(first + before, size, MADV_HUGEPAGE);
  return first + before;
}

void HugePageResource::deallocate_on(Stream, void* data, std::size_t bytes, std::size_t) {
  ::munmap(data, page_bytes(bytes));
}

// Some allocators confuse themselves when zero bytes come back (jemalloc behind the standard's).
void* Borrowed::allocate_on(Stream, std::size_t bytes, std::size_t alignment) {
  const std::size_t wanted = std::max<std::size_t>(bytes, 1);
  void* data = upstream_->allocate(wanted, alignment);
  if (address(data) % alignment == 0) return data;
  upstream_->deallocate(data, wanted, alignment);
  fail_off("borrowed: the resource", bytes, alignment);
}

void Borrowed::deallocate_on(Stream, void* data, std::size_t bytes, std::size_t alignment) {
  upstream_->deallocate(data, std::max<std::size_t>(bytes, 1), alignment);
}

}  // namespace poolgrad::memory

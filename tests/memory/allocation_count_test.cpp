// The counting malloc, which this test program has linked in. Not under sanitizers.
#include "memory/allocation_count.h"

#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/mman.h>

namespace poolgrad::memory {
namespace {

/// Keeps the compiler from leaving an allocation out.
void use(void* data) { asm volatile("" : : "r"(data) : "memory"); }

void malloc_and_free(std::size_t bytes) {
  void* const data = std::malloc(bytes);
  use(data);
  std::free(data);
}

TEST_CASE("allocation counts: nothing allocated, nothing counted") {
  const AllocationWindow window;
  const AllocationCounts counts = window.counts();
  CHECK(counts.ours == 0);
  CHECK(counts.library == 0);
  CHECK(counts.mmaps == 0);
}

TEST_CASE("allocation counts: a malloc outside the mark is ours, inside it the library's") {
  if (!counting()) return;
  const AllocationWindow window;
  malloc_and_free(1000);
  {
    const InLibrary mark;
    malloc_and_free(300);
    {
      const InLibrary nested;
      malloc_and_free(500);
    }
    malloc_and_free(20);
  }
  malloc_and_free(7);
  const AllocationCounts counts = window.counts();
  CHECK(counts.ours == 2);
  CHECK(counts.ours_bytes == 1007);
  CHECK(counts.library == 3);
  CHECK(counts.library_bytes == 820);
  CHECK(counts.largest_library_bytes == 500);
  CHECK(counts.mmaps == 0);
}

TEST_CASE("allocation counts: every way to the heap is seen") {
  if (!counting()) return;
  const auto ours = [](auto allocate) {
    const AllocationWindow window;
    void* data = allocate();
    use(data);
    const AllocationCounts counts = window.counts();
    std::free(data);
    return std::pair(counts.ours, counts.ours_bytes);
  };
  using Seen = std::pair<std::size_t, std::size_t>;
  CHECK(ours([] { return std::malloc(10); }) == Seen{1, 10});
  CHECK(ours([] { return std::calloc(3, 5); }) == Seen{1, 15});
  CHECK(ours([] { return std::aligned_alloc(64, 128); }) == Seen{1, 128});
  CHECK(ours([] {
          void* data = nullptr;
          return ::posix_memalign(&data, 64, 100) == 0 ? data : nullptr;
        }) == Seen{1, 100});
  CHECK(ours([] {
          void* data = std::malloc(10);
          use(data);
          return std::realloc(data, 5000);
        }) == Seen{2, 5010});
}

TEST_CASE("allocation counts: operator new and the containers come through malloc") {
  if (!counting()) return;
  const AllocationWindow window;
  auto number = std::make_unique<int>(5);
  use(number.get());
  std::vector<double> values(100);
  use(values.data());
  struct alignas(128) Wide {
    char bytes[128];
  };
  auto wide = std::make_unique<Wide>();
  use(wide.get());
  CHECK(window.counts().ours == 3);
  CHECK(window.counts().ours_bytes >= sizeof(int) + 800 + 128);
}

TEST_CASE("allocation counts: mmap is seen, and belongs to whoever is marked") {
  if (!counting()) return;
  const AllocationWindow window;
  const auto map = [] {
    void* const data =
        ::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ::munmap(data, 8192);
    return data != MAP_FAILED;
  };
  CHECK(map());
  CHECK(window.counts().mmaps == 1);
  CHECK(window.counts().ours_bytes == 8192);
  {
    const InLibrary mark;
    CHECK(map());
  }
  CHECK(window.counts().mmaps == 2);
  CHECK(window.counts().ours == 1);
  CHECK(window.counts().library == 1);
}

TEST_CASE("allocation counts: the mark is a thread's own") {
  if (!counting()) return;
  std::size_t library = 0;
  const InLibrary mark;
  std::thread([&library] {
    const std::size_t before = allocation_counts().library;
    malloc_and_free(1000);
    library = allocation_counts().library - before;
  }).join();
  CHECK(library == 0);
}

}  // namespace
}  // namespace poolgrad::memory

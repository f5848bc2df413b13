// One suite for everything that gives bytes: resources, adaptors and pools, alone and stacked.
#include "memory/resource.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <memory_resource>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "memory/adaptors.h"
#include "memory/allocation_count.h"
#include "memory/host_stream.h"
#include "memory/pool.h"

namespace poolgrad::memory {
namespace {

/// Stacks: what is under test, with all it stands on. `top` is what a user would hold.
struct Host {
  HostResource top;
};
struct HugePages {
  HugePageResource top;
};
struct BorrowedNewDelete {
  Borrowed top;
};
struct BorrowedPool {  // by its standard interface alone
  HostResource host;
  Pool pool{host};
  Borrowed top{&pool};
};
struct Counted {
  HostResource host;
  Statistics top{host};
};
struct Limited {
  HostResource host;
  Limit top{host, std::size_t{1} << 30U};
};
struct Logged {
  HostResource host;
  std::ostringstream out;
  Log top{host, out};
};
struct Poisoned {
  HostResource host;
  Poison top{host};
};
struct NeverFailing {
  HostResource host;
  FailAt top{host, 0};
};
struct PoolOnHost {
  HostResource host;
  Pool top{host};
};
struct PoolOnHugePages {
  HugePageResource pages;
  Pool top{pages, {.initial_bytes = 4U << 20U, .growth_bytes = 4U << 20U}};
};
struct PoolInSmallSteps {
  HostResource host;
  Pool top{host, {.growth_bytes = 4096}};
};
struct PoolOnPool {
  HostResource host;
  Pool large{host};
  Pool top{large, {.growth_bytes = 65536}};
};
struct All {
  HostResource host;
  Pool pool{host};
  FailAt fail{pool, 0};
  Poison poison{fail};
  std::ostringstream out;
  Log log{poison, out};
  Limit limit{log, std::size_t{1} << 30U};
  Statistics top{limit};
};

#define ALL_STACKS                                                                      \
  Host, HugePages, BorrowedNewDelete, BorrowedPool, Counted, Limited, Logged, Poisoned, \
      NeverFailing, PoolOnHost, PoolOnHugePages, PoolInSmallSteps, PoolOnPool, All

bool is_on(const void* data, std::size_t alignment) {
  return reinterpret_cast<std::uintptr_t>(data) % alignment == 0;
}

/// Random allocations and frees beside a model of what must be where: every block keeps its own
/// pattern until it goes, and no two live blocks meet. Answers the first thing wrong, or nothing.
std::string run_against_model(Resource& resource, unsigned seed, int operations) {
  struct Live {
    std::size_t bytes, alignment;
    unsigned char pattern;
  };
  std::mt19937 random(seed);
  std::map<unsigned char*, Live> live;
  const auto release = [&](auto block) {
    const Live it = block->second;
    unsigned char* const data = block->first;
    const auto kept =
        std::count(data, data + it.bytes, it.pattern) == static_cast<std::ptrdiff_t>(it.bytes);
    resource.deallocate(data, it.bytes, it.alignment);
    live.erase(block);
    return kept;
  };
  for (int i = 0; i < operations; ++i) {
    if (live.size() > 40 || (!live.empty() && random() % 2 == 0)) {
      const auto block = std::next(live.begin(), static_cast<int>(random() % live.size()));
      if (!release(block)) return "a live block was overwritten";
      continue;
    }
    const std::size_t bytes = random() % (std::size_t{1} << random() % 17);
    const std::size_t alignment = std::size_t{1} << random() % 10;
    auto* const data = static_cast<unsigned char*>(resource.allocate(bytes, alignment));
    if (!is_on(data, alignment)) return "a block is not on its alignment";
    const auto above = live.lower_bound(data);
    if (above != live.end() && data + bytes > above->first) return "a block reaches into the next";
    if (above != live.begin()) {
      const auto& [below, it] = *std::prev(above);
      if (below + it.bytes > data) return "a block begins inside another";
    }
    const auto pattern = static_cast<unsigned char>(random());
    std::memset(data, pattern, bytes);
    live.emplace(data, Live{bytes, alignment, pattern});
  }
  while (!live.empty()) {
    if (!release(live.begin())) return "a live block was overwritten";
  }
  return "";
}

TEST_CASE_TEMPLATE("resource: blocks begin on their alignment and hold what is written", Stack,
                   ALL_STACKS) {
  Stack stack;
  for (std::size_t alignment = 1; alignment <= 8192; alignment *= 2) {
    for (const std::size_t bytes : {1U, 63U, 64U, 65U, 4096U, 100'000U, 3'000'000U}) {
      CAPTURE(alignment);
      CAPTURE(bytes);
      auto* const data = static_cast<unsigned char*>(stack.top.allocate(bytes, alignment));
      CHECK(is_on(data, alignment));
      std::memset(data, 0x5a, bytes);
      CHECK(std::count(data, data + bytes, 0x5a) == static_cast<std::ptrdiff_t>(bytes));
      stack.top.deallocate(data, bytes, alignment);
    }
  }
}

TEST_CASE_TEMPLATE("resource: zero bytes have an address that can be freed", Stack, ALL_STACKS) {
  Stack stack;
  void* const a = stack.top.allocate(0, 64);
  void* const b = stack.top.allocate(0, 64);
  CHECK(a != nullptr);
  CHECK(b != nullptr);
  stack.top.deallocate(a, 0, 64);
  stack.top.deallocate(b, 0, 64);
}

TEST_CASE_TEMPLATE("resource: sizes nobody has fail with bad_alloc and leave it working", Stack,
                   ALL_STACKS) {
  if (!counting()) return;  // a sanitizer's malloc ends the program instead
  Stack stack;
  constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
  for (const std::size_t bytes : {kMost, kMost - 63, kMost - 4096, kMost / 2 + 1, kMost / 4}) {
    for (const std::size_t alignment : {8U, 64U, 4096U}) {
      // The standard library's own operator new wraps around where size + alignment does.
      if (std::is_same_v<Stack, BorrowedNewDelete> && bytes > kMost - 4096) continue;
      CAPTURE(bytes);
      CAPTURE(alignment);
      CHECK_THROWS_AS(static_cast<void>(stack.top.allocate(bytes, alignment)), std::bad_alloc);
    }
  }
  CHECK(run_against_model(stack.top, 1, 50) == "");
}

TEST_CASE_TEMPLATE("resource: random allocations and frees agree with a model", Stack, ALL_STACKS) {
  Stack stack;
  for (unsigned seed = 0; seed < 5; ++seed) {
    CAPTURE(seed);
    CHECK(run_against_model(stack.top, seed, 400) == "");
  }
}

TEST_CASE_TEMPLATE("resource: several threads at once agree with their models", Stack, ALL_STACKS) {
  Stack stack;
  std::vector<std::string> results(4);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < results.size(); ++i) {
    threads.emplace_back([&, i] { results[i] = run_against_model(stack.top, 100 + i, 400); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& result : results) CHECK(result == "");
}

TEST_CASE_TEMPLATE("resource: the standard's containers live in it", Stack, ALL_STACKS) {
  Stack stack;
  std::pmr::vector<int> numbers(&stack.top);
  std::pmr::map<int, std::pmr::string> names(&stack.top);
  for (int i = 0; i < 1000; ++i) {
    numbers.push_back(i);
    names[i % 100] = std::string(static_cast<std::size_t>(i % 50), 'x').c_str();
  }
  CHECK(numbers.back() == 999);
  CHECK(names[99].size() == 49);
  CHECK(stack.top == stack.top);
  CHECK(stack.top != *std::pmr::new_delete_resource());
}

TEST_CASE_TEMPLATE("resource: streams and places pass through", Stack, ALL_STACKS) {
  Stack stack;
  HostStream worker;
  const Stream stream = worker.stream();
  void* const data = stack.top.allocate_on(stream, 1000, 64);
  CHECK(is_on(data, 64));
  stack.top.deallocate_on(stream, data, 1000, 64);
  CHECK(stack.top.place() == Place{Space::host, 0});
}

TEST_CASE("resource: a borrowed one that misses the alignment is told so") {
  struct Askew final : std::pmr::memory_resource {
    alignas(64) std::byte block[128]{};
    int live = 0;
    void* do_allocate(std::size_t, std::size_t) override { return ++live, block + 16; }
    void do_deallocate(void*, std::size_t, std::size_t) override { --live; }
    [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override {
      return this == &other;
    }
  } askew;
  Borrowed borrowed(&askew);
  CHECK_THROWS_WITH_AS(static_cast<void>(borrowed.allocate(96, 64)),
                       "borrowed: the resource was asked for 96 bytes on 64 and gave an address "
                       "off that alignment; use another allocator",
                       OutOfMemory);
  CHECK(askew.live == 0);
  void* const data = borrowed.allocate(96, 16);
  borrowed.deallocate(data, 96, 16);
}

/// Bytes of address space that this process has.
std::size_t mapped_bytes() {
  std::size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * 4096;
}

TEST_CASE("resource: huge pages leave nothing mapped behind") {
  HugePageResource pages;
  const std::size_t before = mapped_bytes();
  for (int i = 0; i < 100; ++i) {
    for (const std::size_t alignment : {std::size_t{64}, std::size_t{8} << 20U}) {
      pages.deallocate(pages.allocate(3'000'000, alignment), 3'000'000, alignment);
    }
  }
  CHECK(mapped_bytes() < before + (std::size_t{1} << 20U));
}

TEST_CASE("resource: the host's refusal says how much was asked for") {
  if (!counting()) return;  // as above
  HostResource host;
  constexpr std::size_t kBytes = std::numeric_limits<std::size_t>::max() / 4;
  try {
    static_cast<void>(host.allocate(kBytes, 64));
    FAIL("expected OutOfMemory");
  } catch (const OutOfMemory& error) {
    CHECK(std::string(error.what()) ==
          "host: the system refused 4611686018427387903 bytes; free memory or ask for less");
    CHECK(error.requested_bytes() == kBytes);
  }
}

}  // namespace
}  // namespace poolgrad::memory

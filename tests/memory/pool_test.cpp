// The pool's own ways: best fit, coalescing, growth, and no allocation once it has grown.
#include "memory/pool.h"

#include <algorithm>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "memory/adaptors.h"
#include "memory/allocation_count.h"

namespace poolgrad::memory {
namespace {

TEST_CASE("pool: the smallest free block that fits is taken") {
  HostResource host;
  Pool pool(host, {.initial_bytes = 65536});
  std::vector<void*> blocks;
  for (const std::size_t bytes : {1024U, 64U, 512U, 64U, 2048U, 64U, 640U, 64U}) {
    blocks.push_back(pool.allocate(bytes, 64));
  }
  pool.deallocate(blocks[0], 1024, 64);
  pool.deallocate(blocks[2], 512, 64);
  pool.deallocate(blocks[4], 2048, 64);
  pool.deallocate(blocks[6], 640, 64);
  CHECK(pool.allocate(600, 64) == blocks[6]);
  CHECK(pool.allocate(512, 64) == blocks[2]);
  CHECK(pool.allocate(700, 64) == blocks[0]);
  CHECK(pool.allocate(1500, 64) == blocks[4]);
}

TEST_CASE("pool: it is taken among sizes that nearly fit, too") {
  HostResource host;
  Pool pool(host, {.initial_bytes = std::size_t{1} << 20U});
  std::vector<void*> blocks;
  for (std::size_t granules = 64; granules < 68; ++granules) {  // all in one bin
    blocks.push_back(pool.allocate(granules * 64, 64));
    static_cast<void>(pool.allocate(64, 64));
  }
  for (const std::size_t i : {1U, 3U, 0U, 2U}) pool.deallocate(blocks[i], 0, 64);
  CHECK(pool.allocate(std::size_t{66} * 64, 64) == blocks[2]);
  CHECK(pool.allocate(std::size_t{64} * 64, 64) == blocks[0]);
  CHECK(pool.allocate(std::size_t{64} * 64, 64) == blocks[1]);
  CHECK(pool.allocate(std::size_t{67} * 64, 64) == blocks[3]);
}

TEST_CASE("pool: freed neighbours become one block, in whatever order they come") {
  HostResource host;
  for (unsigned seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    Pool pool(host, {.initial_bytes = std::size_t{1} << 20U});
    std::mt19937 random(seed);
    std::vector<void*> blocks;
    for (int i = 0; i < 100; ++i) {
      blocks.push_back(pool.allocate(random() % 5000, std::size_t{1} << random() % 10));
    }
    std::shuffle(blocks.begin(), blocks.end(), random);
    for (void* block : blocks) pool.deallocate(block, 0, 64);
    const PoolStatistics end = pool.statistics();
    CHECK(end.live_bytes == 0);
    CHECK(end.live_blocks == 0);
    CHECK(end.free_blocks == 1);
    CHECK(end.largest_free_bytes == end.reserved_bytes);
    CHECK(end.fragmentation() == 0.0);
  }
}

TEST_CASE("pool: statistics say what is live, free and in pieces") {
  HostResource host;
  Pool pool(host, {.initial_bytes = 4096});
  void* const a = pool.allocate(1000, 64);  // 1024 with its granule
  void* const b = pool.allocate(1024, 64);
  void* const c = pool.allocate(1, 64);
  pool.deallocate(a, 1000, 64);
  PoolStatistics now = pool.statistics();
  CHECK(now.live_bytes == 1088);
  CHECK(now.peak_bytes == 2112);
  CHECK(now.reserved_bytes == 4096);
  CHECK(now.live_blocks == 2);
  CHECK(now.free_blocks == 2);
  CHECK(now.free_bytes == 3008);
  CHECK(now.largest_free_bytes == 1984);
  CHECK(now.slabs == 1);
  CHECK(now.fragmentation() == doctest::Approx(1.0 - 1984.0 / 3008.0));
  pool.deallocate(b, 1024, 64);
  pool.deallocate(c, 1, 64);
  CHECK(pool.statistics().fragmentation() == 0.0);
  CHECK(PoolStatistics{}.fragmentation() == 0.0);
}

TEST_CASE("pool: a repeated pattern needs neither upstream nor the heap") {
  HostResource host;
  Statistics upstream(host);
  Pool pool(upstream);
  const auto step = [&pool](std::vector<void*>& blocks) {
    std::mt19937 random(1);
    for (void*& block : blocks) block = pool.allocate(random() % 100'000, 64);
    for (std::size_t i = 0; i < blocks.size(); i += 2) pool.deallocate(blocks[i], 0, 64);
    for (std::size_t i = 0; i < blocks.size(); i += 2)
      blocks[i] = pool.allocate(random() % 50'000, 64);
    for (void* block : blocks) pool.deallocate(block, 0, 64);
  };
  std::vector<void*> blocks(300);
  step(blocks);
  step(blocks);
  const std::size_t slabs = upstream.allocations();
  const AllocationWindow window;
  for (int i = 0; i < 20; ++i) step(blocks);
  CHECK(window.counts().ours == 0);
  CHECK(upstream.allocations() == slabs);
}

TEST_CASE("pool: trim gives unused slabs back and keeps the others") {
  HostResource host;
  Statistics upstream(host);
  Pool pool(upstream, {.growth_bytes = 65536});
  void* const a = pool.allocate(60'000, 64);
  void* const b = pool.allocate(60'000, 64);
  CHECK(pool.statistics().slabs == 2);
  CHECK(pool.trim() == 0);
  pool.deallocate(a, 60'000, 64);
  CHECK(pool.trim() == 65536);
  CHECK(upstream.live_bytes() == 65536);
  pool.deallocate(b, 60'000, 64);
  CHECK(pool.trim() == 65536);
  CHECK(upstream.live_bytes() == 0);
  void* const c = pool.allocate(100, 64);  // and goes on
  pool.deallocate(c, 100, 64);
}

TEST_CASE("pool: gives all slabs back in the end, live blocks or not") {
  HostResource host;
  Statistics upstream(host);
  {
    Pool pool(upstream);
    static_cast<void>(pool.allocate(1000, 64));
    static_cast<void>(pool.allocate(10'000'000, 64));
  }
  CHECK(upstream.live_bytes() == 0);
  CHECK(upstream.allocations() == upstream.deallocations());
}

TEST_CASE("pool: takes no more than is needed where upstream refuses a usual slab") {
  HostResource host;
  Limit limit(host, 10'000);
  Pool pool(limit);
  void* const data = pool.allocate(5000, 64);
  CHECK(pool.statistics().reserved_bytes == 5056);
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.allocate(5000, 64)),
                       "pool: 5000 bytes requested with 5056 of 5056 live and the largest free "
                       "run 0 as upstream gives no more; free some or ask for less",
                       OutOfMemory);
  pool.deallocate(data, 5000, 64);
  void* const larger = pool.allocate(9000, 64);  // gives the unused slab back first
  CHECK(pool.statistics().slabs == 1);
  pool.deallocate(larger, 9000, 64);
}

TEST_CASE("pool: keeps to its own limit, and says so") {
  HostResource host;
  Pool pool(host, {.initial_bytes = 4096, .limit_bytes = 8192});
  void* const data = pool.allocate(4096, 64);
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.allocate(5000, 64)),
                       "pool: 5000 bytes requested with 4096 of 4096 live and the largest free "
                       "run 0 within the limit of 8192; free some or ask for less",
                       OutOfMemory);
  pool.deallocate(data, 4096, 64);
  CHECK_THROWS_AS(Pool(host, {.initial_bytes = 10'000, .limit_bytes = 8192}), OutOfMemory);
}

TEST_CASE("pool: a failing upstream leaves it as it was, wherever it fails") {
  HostResource host;
  for (std::size_t nth = 1; nth <= 4; ++nth) {
    CAPTURE(nth);
    FailAt fail(host, nth);
    Statistics upstream(fail);
    {
      Pool pool(upstream, {.growth_bytes = 4096});
      for (int i = 0; i < 6; ++i) {
        try {
          static_cast<void>(pool.allocate(4096, 64));
        } catch (const OutOfMemory&) {
          FAIL("a second, smaller attempt should have succeeded");
        }
      }
      CHECK(pool.statistics().live_blocks == 6);
    }
    CHECK(upstream.live_bytes() == 0);
  }
}

TEST_CASE("pool: an address that is not live is refused") {
  HostResource host;
  Pool pool(host);
  void* const data = pool.allocate(100, 64);
  int other = 0;
  CHECK_THROWS_AS(pool.deallocate(&other, 100, 64), std::invalid_argument);
  pool.deallocate(data, 100, 64);
  CHECK_THROWS_WITH_AS(pool.deallocate(data, 100, 64),
                       "pool: an address was given back that is not live here; it was freed twice "
                       "or belongs to another resource",
                       std::invalid_argument);
}

TEST_CASE("pool: its bookkeeping stays out of the bytes it manages") {
  HostResource host;
  Poison poison(host);
  Pool pool(poison, {.initial_bytes = 8192});
  void* const a = pool.allocate(1024, 64);
  void* const b = pool.allocate(1024, 64);
  pool.deallocate(a, 1024, 64);
  pool.deallocate(b, 1024, 64);
  const auto* const bytes = static_cast<const std::byte*>(a);
  for (std::size_t i = 0; i < 8192; ++i) REQUIRE(bytes[i] == Poison::kPattern);
}

}  // namespace
}  // namespace poolgrad::memory

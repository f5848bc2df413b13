#include "memory/arena.h"

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <vector>

#include <doctest/doctest.h>

#include "memory/adaptors.h"

namespace poolgrad::memory {
namespace {

TEST_CASE("arena: one allocation, on a page, given back at the end") {
  HostResource host;
  Statistics statistics(host);
  {
    const Arena arena(statistics, 10'000, /*guard_bytes=*/256);
    CHECK(arena.bytes() == 10'000);
    CHECK(arena.guard_bytes() == 256);
    CHECK(reinterpret_cast<std::uintptr_t>(arena.at(0)) % 4096 == 0);
    CHECK(arena.at(100) - arena.at(0) == 100);
    CHECK(statistics.allocations() == 1);
    CHECK(statistics.live_bytes() == 10'256);
    CHECK(arena.place() == Place{});
  }
  CHECK(statistics.live_bytes() == 0);
}

TEST_CASE("arena: may be empty") {
  HostResource host;
  Arena arena(host, 0);
  arena.fill();
  CHECK(!arena.highest_changed());
  CHECK(arena.guards_intact());
}

TEST_CASE("arena: an arena that shares its resource keeps it alive") {
  auto host = std::make_shared<HostResource>();
  const std::weak_ptr<HostResource> watch = host;
  {
    const Arena arena(std::move(host), 64);
    CHECK(!watch.expired());
  }
  CHECK(watch.expired());
}

TEST_CASE("arena: a lent block is used in place and its owner held") {
  HostResource host;
  auto* const data = static_cast<std::byte*>(host.allocate(4096, 64));
  auto owner = std::shared_ptr<void>(data, [&](void* p) { host.deallocate(p, 4096, 64); });
  const std::weak_ptr<void> watch = owner;
  {
    const Arena arena(std::span(data, 4096), std::move(owner), {}, /*guard_bytes=*/96);
    CHECK(arena.at(0) == data);
    CHECK(arena.bytes() == 4000);
    CHECK(arena.guards_intact());
    CHECK(!watch.expired());
  }
  CHECK(watch.expired());
}

TEST_CASE("arena: a lent block must begin on 64 bytes and be larger than its guard") {
  alignas(64) std::byte block[256];
  CHECK_THROWS_WITH_AS(Arena(std::span(block).subspan(8)),
                       "arena: the block begins 8 bytes behind a multiple of 64; allocate it on 64 "
                       "bytes",
                       std::invalid_argument);
  CHECK_THROWS_WITH_AS(Arena(std::span(block), nullptr, {}, 300),
                       "arena: the block of 256 bytes is smaller than its guard of 300; lend a "
                       "larger block",
                       std::invalid_argument);
  CHECK_THROWS_AS(Arena(std::span(block), nullptr, Place{Space::cuda, 0}, 8),
                  std::invalid_argument);
}

TEST_CASE("arena: a size that cannot be addressed is out of memory") {
  HostResource host;
  constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
  CHECK_THROWS_AS(Arena(host, kMost - 10, /*guard_bytes=*/64), OutOfMemory);
}

TEST_CASE("arena: any changed guard byte is seen") {
  HostResource host;
  for (const std::size_t bytes : {64U, 1000U, 4096U}) {
    for (const std::size_t guard : {1U, 64U, 5000U}) {
      const Arena arena(host, bytes, guard);
      std::memset(arena.at(0), 1, bytes);
      CHECK(arena.guards_intact());
      for (const std::size_t at : {std::size_t{0}, guard / 2, guard - 1}) {
        CAPTURE(at);
        std::byte& byte = *(arena.at(bytes) + at);
        byte ^= std::byte{1};
        CHECK(!arena.guards_intact());
        byte ^= std::byte{1};
      }
      CHECK(arena.guards_intact());
    }
  }
}

TEST_CASE("arena: the highest changed byte is found wherever it is") {
  HostResource host;
  Arena arena(host, 20'000);
  arena.fill();
  CHECK(!arena.highest_changed());
  for (const std::size_t at : {0U, 1U, 63U, 4095U, 4096U, 10'000U, 15'903U, 15'904U, 19'999U}) {
    CAPTURE(at);
    *arena.at(at) = std::byte{0};
    CHECK(arena.highest_changed() == at);
    CHECK(arena.highest_changed(at) == at);
    CHECK(!arena.highest_changed(at + 1));
  }
  arena.fill(10'000);  // what lies before keeps its changes
  CHECK(arena.highest_changed() == 4096);
  CHECK(arena.highest_changed(10'000) == std::nullopt);
  arena.fill(0, std::byte{7});
  CHECK(!arena.highest_changed(0, std::byte{7}));
  CHECK(arena.highest_changed() == 19'999);
}

}  // namespace
}  // namespace poolgrad::memory

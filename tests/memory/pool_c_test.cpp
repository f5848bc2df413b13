// The C interface, used as C would.
#include "memory/pool_c.h"

#include <cstring>
#include <string>

#include <doctest/doctest.h>

namespace {

constexpr poolgrad_stream kCaller{};

TEST_CASE("pool in C: bytes are taken, freed and counted") {
  poolgrad_pool* const pool = poolgrad_pool_create(nullptr);
  void* const data = poolgrad_pool_allocate(pool, 1000, 0, kCaller);
  std::memset(data, 1, 1000);
  CHECK(poolgrad_pool_stats(pool).live_bytes == 1024);
  CHECK(poolgrad_pool_stats(pool).live_blocks == 1);
  CHECK(poolgrad_pool_free(pool, data, kCaller) == 1);
  CHECK(poolgrad_pool_free(pool, nullptr, kCaller) == 1);
  CHECK(poolgrad_pool_stats(pool).live_bytes == 0);
  CHECK(poolgrad_pool_stats(pool).largest_free_bytes == std::size_t{1} << 20U);
  CHECK(poolgrad_pool_trim(pool) == std::size_t{1} << 20U);
  poolgrad_pool_destroy(pool);
  poolgrad_pool_destroy(nullptr);
}

TEST_CASE("pool in C: failures leave a sentence") {
  const poolgrad_pool_options small{4096, 0, 8192, 0};
  poolgrad_pool* const pool = poolgrad_pool_create(&small);
  CHECK(poolgrad_pool_allocate(pool, 10'000, 0, kCaller) == nullptr);
  CHECK(
      poolgrad_error() ==
      std::string("pool: 10000 bytes requested with 0 of 0 live and the largest free run 0 within "
                  "the limit of 8192; free some or ask for less"));
  int other = 0;
  CHECK(poolgrad_pool_free(pool, &other, kCaller) == 0);
  CHECK(poolgrad_error() ==
        std::string("pool: an address was given back that is not live here; it was freed twice or "
                    "belongs to another resource"));
  poolgrad_pool_destroy(pool);
  const poolgrad_pool_options wrong{10'000, 0, 8192, 0};
  CHECK(poolgrad_pool_create(&wrong) == nullptr);
}

TEST_CASE("pool in C: streams do their work, wait, and keep bytes to their order") {
  poolgrad_pool* const pool = poolgrad_pool_create(nullptr);
  const poolgrad_stream first = poolgrad_stream_create(), second = poolgrad_stream_create();
  auto* const data = static_cast<int*>(poolgrad_pool_allocate(pool, sizeof(int), 0, first));
  CHECK(poolgrad_stream_enqueue(
            first, [](void* number) { *static_cast<int*>(number) = 7; }, data) == 1);
  CHECK(poolgrad_stream_wait(second, first) == 1);
  CHECK(poolgrad_stream_enqueue(
            second, [](void* number) { *static_cast<int*>(number) *= 6; }, data) == 1);
  CHECK(poolgrad_stream_synchronize(second) == 1);
  CHECK(*data == 42);
  CHECK(poolgrad_pool_free(pool, data, second) == 1);
  CHECK(poolgrad_pool_allocate(pool, sizeof(int), 0, second) == data);
  CHECK(poolgrad_pool_stats(pool).live_blocks == 1);
  poolgrad_stream_destroy(first);
  poolgrad_stream_destroy(second);
  poolgrad_stream_destroy(kCaller);
  poolgrad_pool_destroy(pool);
}

}  // namespace

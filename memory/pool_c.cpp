// The pool in C: exceptions become sentences, handles become objects.
#include "memory/pool_c.h"

#include <exception>
#include <string>

#include "memory/host_stream.h"
#include "memory/pool.h"

using poolgrad::memory::Event;
using poolgrad::memory::HostResource;
using poolgrad::memory::HostStream;
using poolgrad::memory::Pool;
using poolgrad::memory::PoolOptions;
using poolgrad::memory::PoolStatistics;
using poolgrad::memory::Reuse;
using poolgrad::memory::Stream;
using poolgrad::memory::StreamOps;

struct poolgrad_pool {
  explicit poolgrad_pool(const PoolOptions& options) : pool(host, options) {}
  HostResource host;
  Pool pool;
};

namespace {

std::string& error() {
  thread_local std::string text;
  return text;
}

/// What `call` answers, or `otherwise` when it throws.
template <typename F, typename T>
T guarded(const F& call, T otherwise) {
  try {
    return call();
  } catch (const std::exception& failure) {
    error() = failure.what();
  } catch (...) {
    error() = "work threw what is no std::exception";
  }
  return otherwise;
}

Stream to_stream(poolgrad_stream stream) {
  return {stream.handle, static_cast<const StreamOps*>(stream.ops)};
}

}  // namespace

poolgrad_pool* poolgrad_pool_create(const poolgrad_pool_options* options) {
  const poolgrad_pool_options given = options != nullptr ? *options : poolgrad_pool_options{};
  const PoolOptions wanted{.initial_bytes = given.initial_bytes,
                           .growth_bytes = given.growth_bytes,
                           .limit_bytes = given.limit_bytes,
                           .reuse = given.never_wait != 0 ? Reuse::passed : Reuse::wait};
  return guarded([&] { return new poolgrad_pool(wanted); }, static_cast<poolgrad_pool*>(nullptr));
}

void poolgrad_pool_destroy(poolgrad_pool* pool) { delete pool; }

void* poolgrad_pool_allocate(poolgrad_pool* pool, size_t size, size_t alignment,
                             poolgrad_stream stream) {
  return guarded(
      [&] {
        return pool->pool.allocate_on(to_stream(stream), size, alignment > 0 ? alignment : 64);
      },
      static_cast<void*>(nullptr));
}

int poolgrad_pool_free(poolgrad_pool* pool, void* data, poolgrad_stream stream) {
  if (data == nullptr) return 1;
  return guarded([&] { return pool->pool.deallocate_on(to_stream(stream), data, 0, 64), 1; }, 0);
}

size_t poolgrad_pool_trim(poolgrad_pool* pool) {
  return guarded([&] { return pool->pool.trim(); }, size_t{0});
}

poolgrad_pool_statistics poolgrad_pool_stats(poolgrad_pool* pool) {
  const PoolStatistics now = guarded([&] { return pool->pool.statistics(); }, PoolStatistics{});
  return {.live_bytes = now.live_bytes,
          .live_blocks = now.live_blocks,
          .peak_bytes = now.peak_bytes,
          .reserved_bytes = now.reserved_bytes,
          .slabs = now.slabs,
          .free_bytes = now.free_bytes,
          .free_blocks = now.free_blocks,
          .largest_free_bytes = now.largest_free_bytes,
          .pending_bytes = now.pending_bytes};
}

poolgrad_stream poolgrad_stream_create(void) {
  return guarded(
      [] {
        const Stream stream = HostStream().release();
        return poolgrad_stream{stream.handle, stream.ops};
      },
      poolgrad_stream{});
}

void poolgrad_stream_destroy(poolgrad_stream stream) {
  if (stream.handle != nullptr) HostStream(to_stream(stream));
}

int poolgrad_stream_enqueue(poolgrad_stream stream, void (*work)(void*), void* data) {
  return guarded([&] { return to_stream(stream).enqueue(work, data), 1; }, 0);
}

int poolgrad_stream_synchronize(poolgrad_stream stream) {
  return guarded([&] { return to_stream(stream).synchronize(), 1; }, 0);
}

int poolgrad_stream_wait(poolgrad_stream stream, poolgrad_stream other) {
  return guarded([&] { return to_stream(stream).wait(Event(to_stream(other))), 1; }, 0);
}

const char* poolgrad_error(void) { return error().c_str(); }

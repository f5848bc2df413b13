// Who is given which bytes, in the order of streams: single cases. Random ones are in
// pool_stress_test.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
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

/// A stream that stands still until told to go on.
struct Held {
  std::atomic<bool> open = false;
  HostStream worker;
  Stream stream = worker.stream();

  Held() {
    worker.enqueue([this] { open.wait(false); });
  }
  ~Held() { let_go(); }
  void let_go() {
    open = true;
    open.notify_all();
    worker.synchronize();
  }
};

TEST_CASE("pool: bytes freed on a stream are its own at once, others' after the event") {
  HostResource host;
  Pool pool(host, {.initial_bytes = 8192, .reuse = Reuse::passed});
  Held first, second;
  void* const data = pool.allocate_on(first.stream, 4096, 64);
  pool.deallocate_on(first.stream, data, 4096, 64);
  CHECK(pool.statistics().pending_bytes == 4096);
  CHECK(pool.allocate_on(first.stream, 4096, 64) == data);
  pool.deallocate_on(first.stream, data, 4096, 64);
  void* const other = pool.allocate_on(second.stream, 4096, 64);
  CHECK(other != data);
  CHECK(pool.allocate(4096, 64) != data);  // from a new slab
  CHECK(pool.statistics().slabs == 2);
  first.let_go();
  CHECK(pool.statistics().pending_bytes == 0);
  CHECK(pool.allocate_on(second.stream, 4096, 64) == data);
}

TEST_CASE("pool: another stream is given them with a wait") {
  HostResource host;
  Pool pool(host, {.initial_bytes = 4096, .limit_bytes = 4096});
  Held first;
  HostStream second;
  void* const data = pool.allocate_on(first.stream, 4096, 64);
  bool used = false;
  first.worker.enqueue([&] { used = true; });
  pool.deallocate_on(first.stream, data, 4096, 64);
  CHECK(pool.allocate_on(second.stream(), 4096, 64) == data);
  bool seen = false;
  second.enqueue([&] { seen = used; });
  first.let_go();
  second.synchronize();
  CHECK(seen);
}

TEST_CASE("pool: a stream is given neighbours of several streams together, with waits") {
  HostResource host;
  Pool pool(host, {.initial_bytes = 3 * 4096, .limit_bytes = 3 * 4096});
  Held first, second;
  HostStream third;
  void* const a = pool.allocate_on(first.stream, 4096, 64);
  void* const b = pool.allocate_on(second.stream, 4096, 64);
  void* const c = pool.allocate_on(third.stream(), 4096, 64);
  int order = 0, one = 0, two = 0, three = 0;
  first.worker.enqueue([&] { one = ++order; });
  pool.deallocate_on(first.stream, a, 4096, 64);
  pool.deallocate_on(second.stream, b, 4096, 64);
  pool.deallocate_on(third.stream(), c, 4096, 64);
  CHECK(pool.allocate_on(third.stream(), 3 * 4096, 64) == a);
  first.let_go();
  second.worker.enqueue([&] { two = ++order; });  // after the free: nobody waits for this
  third.enqueue([&] { three = 1; });
  second.let_go();
  third.synchronize();
  CHECK(one == 1);
  CHECK(two == 2);
  CHECK(three == 1);
}

TEST_CASE("pool: the calling thread waits before it is told that memory is out") {
  HostResource host;
  Pool pool(host, {.initial_bytes = 8192, .limit_bytes = 8192});
  Held first;
  void* const data = pool.allocate_on(first.stream, 8192, 64);
  pool.deallocate_on(first.stream, data, 8192, 64);
  std::thread later([&] { first.let_go(); });
  CHECK(pool.allocate(8192, 64) == data);
  later.join();
  CHECK(first.open);
}

TEST_CASE("pool: where nobody may wait, out of memory tells what is pending") {
  HostResource host;
  Pool pool(host, {.initial_bytes = 8192, .limit_bytes = 8192, .reuse = Reuse::passed});
  Held first;
  void* const data = pool.allocate_on(first.stream, 4096, 64);
  pool.deallocate_on(first.stream, data, 4096, 64);
  CHECK_THROWS_WITH_AS(static_cast<void>(pool.allocate(5000, 64)),
                       "pool: 5000 bytes requested with 0 of 8192 live and the largest free run "
                       "8192 (4096 free bytes wait for streams) within the limit of 8192; free "
                       "some or ask for less",
                       OutOfMemory);
}

TEST_CASE("pool: trim keeps slabs that a stream still uses") {
  HostResource host;
  Pool pool(host, {.initial_bytes = 4096});
  Held first;
  void* const data = pool.allocate_on(first.stream, 4096, 64);
  pool.deallocate_on(first.stream, data, 4096, 64);
  CHECK(pool.trim() == 0);
  first.let_go();
  CHECK(pool.trim() == 4096);
}

TEST_CASE("pool: a forgotten stream's bytes are not mistaken for those of its successor") {
  HostResource host;
  Pool pool(host, {.initial_bytes = 8192, .reuse = Reuse::passed});
  Held first;
  void* const data = pool.allocate_on(first.stream, 4096, 64);
  pool.deallocate_on(first.stream, data, 4096, 64);
  pool.forget(first.stream);
  CHECK(pool.allocate_on(first.stream, 4096, 64) != data);
  first.let_go();
  CHECK(pool.allocate(4096, 64) == data);
}

TEST_CASE("pool: many frees while a stream stands still need no more events than it has") {
  HostResource host;
  Pool pool(host, {.initial_bytes = std::size_t{1} << 20U, .reuse = Reuse::passed});
  Held first;
  std::vector<void*> blocks(200);
  for (void*& block : blocks) {
    block = pool.allocate_on(first.stream, 1024, 64);
    static_cast<void>(pool.allocate_on(first.stream, 64, 64));  // so that none are neighbours
  }
  for (void* block : blocks) pool.deallocate_on(first.stream, block, 1024, 64);
  CHECK(pool.statistics().pending_bytes == 200 * 1024);
  first.let_go();
  CHECK(pool.statistics().pending_bytes == 0);
  const AllocationWindow window;
  for (int i = 0; i < 100; ++i) {
    pool.deallocate_on(first.stream, pool.allocate_on(first.stream, 1024, 64), 1024, 64);
  }
  CHECK(window.counts().ours == 0);
}

TEST_CASE("pool: waits for the streams before it gives slabs back") {
  HostResource host;
  Poison poison(host);
  HostStream worker;
  bool sound = false;
  {
    Pool pool(poison);
    auto* const data = static_cast<char*>(pool.allocate_on(worker.stream(), 100, 64));
    worker.enqueue([&sound, data] {
      data[0] = 1;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      sound = data[0] == 1;
    });
    pool.deallocate_on(worker.stream(), data, 100, 64);
  }
  worker.synchronize();
  CHECK(sound);
}

TEST_CASE("pool: so it does where another stream took the bytes over and a third one came") {
  HostResource host;
  Poison poison(host);
  HostStream first, second, third;
  bool sound = false;
  {
    Pool pool(poison, {.initial_bytes = 8192, .limit_bytes = 8192});
    auto* const data = static_cast<char*>(pool.allocate_on(first.stream(), 4096, 64));
    void* const other = pool.allocate(4096, 64);
    first.enqueue([&sound, data] {
      data[0] = 1;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      sound = data[0] == 1;
    });
    pool.deallocate_on(first.stream(), data, 4096, 64);
    CHECK(pool.allocate_on(second.stream(), 4096, 64) == data);
    pool.deallocate_on(third.stream(), other, 4096, 64);
  }
  first.synchronize();
  CHECK(sound);
}

std::atomic<int> asked = 0;

/// A table for streams whose events count in `asked` how often they are asked whether they are
/// done.
StreamOps counting() {
  static const StreamOps* ops = nullptr;
  HostStream stream;
  ops = stream.stream().ops;
  StreamOps result = *ops;
  result.done = [](void* event) { return ++asked, ops->done(event); };
  return result;
}

/// A request on another thread that waits in the pool, for a stream with such a table.
class Waiting {
 public:
  Waiting(Pool& pool, Stream stream, std::size_t bytes) {
    asked = 0;
    thread_ = std::thread([&pool, stream, bytes, this] {
      data_ = pool.allocate_on(stream, bytes, 64);
      data_.notify_all();
    });
    while (asked < 5) std::this_thread::yield();  // before it waits it asks less often
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;
  ~Waiting() { thread_.join(); }

  /// Null after so long that it seems to wait still.
  [[nodiscard]] void* data() const {
    for (int i = 0; i < 5000 && data_ == nullptr; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return data_;
  }

 private:
  std::atomic<void*> data_ = nullptr;
  std::thread thread_;
};

TEST_CASE("pool: who waits for a stream is given what others free meanwhile") {
  HostResource host;
  Pool pool(host, {.initial_bytes = 8192, .limit_bytes = 8192});
  const StreamOps ops = counting();
  Held held;
  const Stream stream{held.stream.handle, &ops};
  void* const pending = pool.allocate_on(stream, 4096, 64);
  void* const live = pool.allocate(4096, 64);
  pool.deallocate_on(stream, pending, 4096, 64);
  const Waiting waiting(pool, {}, 4096);
  pool.deallocate(live, 4096, 64);
  CHECK(waiting.data() == live);
  held.let_go();
}

TEST_CASE("pool: who waits for a stream also waits for those that came meanwhile") {
  HostResource host;
  Pool pool(host, {.initial_bytes = 3 * 4096, .limit_bytes = 3 * 4096});
  const StreamOps ops = counting();
  Held held, late;
  HostStream asking;
  const Stream stream{held.stream.handle, &ops};
  void* const pending = pool.allocate_on(stream, 4096, 64);
  void* const a = pool.allocate(4096, 64);
  void* const b = pool.allocate(4096, 64);
  pool.deallocate_on(stream, pending, 4096, 64);
  const Waiting waiting(pool, asking.stream(), 8192);
  pool.deallocate_on(late.stream, b, 4096, 64);
  pool.deallocate_on(late.stream, a, 4096, 64);
  held.let_go();
  CHECK(waiting.data() != nullptr);
  const Event used(asking.stream());
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  CHECK_FALSE(used.done());
  late.let_go();
  asking.synchronize();
}

TEST_CASE("pool: an event that cannot be recorded leaves the block live") {
  static bool refuse = true;
  HostStream worker;
  StreamOps ops = *worker.stream().ops;
  static void (*record)(void*, void*) = ops.record;
  ops.record = [](void* event, void* stream) {
    if (refuse) throw std::runtime_error("no event");
    record(event, stream);
  };
  HostResource host;
  Pool pool(host);
  const Stream stream{worker.stream().handle, &ops};
  void* const data = pool.allocate_on(stream, 100, 64);
  CHECK_THROWS_WITH(pool.deallocate_on(stream, data, 100, 64), "no event");
  CHECK(pool.statistics().live_blocks == 1);
  refuse = false;
  pool.deallocate_on(stream, data, 100, 64);
  CHECK(pool.statistics().live_blocks == 0);
}

TEST_CASE("pool: threads that meet at the lock keep blocks by them, and lose none") {
  HostResource host;
  Pool pool(host, {.initial_bytes = std::size_t{1} << 20U, .limit_bytes = std::size_t{1} << 20U});
  std::vector<std::thread> threads;
  std::vector<std::atomic<void*>> left(16);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20'000; ++i) {
        auto* const mine = static_cast<int*>(pool.allocate(64 << (i % 5), 64));
        *mine = i;
        void* const other = left[static_cast<std::size_t>(i) % left.size()].exchange(mine);
        if (other != nullptr) pool.deallocate(other, 0, 64);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::atomic<void*>& each : left) {
    void* const data = each;
    pool.deallocate(data, 0, 64);
    CHECK_THROWS_AS(pool.deallocate(data, 0, 64), std::invalid_argument);
  }
  CHECK(pool.allocate(std::size_t{1} << 20U, 64) != nullptr);  // all of it, in one piece
  CHECK(pool.statistics().live_blocks == 1);
}

TEST_CASE(
    "pool: addresses that no block can have are refused, with blocks kept by a thread or none") {
  HostResource host;
  Pool pool(host);
  constexpr std::size_t kLarge = std::size_t{64} << 10U;  // kept
  pool.deallocate(pool.allocate(kLarge, 64), kLarge, 64);
  for (const bool kept : {true, false}) {
    CAPTURE(kept);
    if (!kept) CHECK(pool.statistics().live_blocks == 0);
    for (const std::uintptr_t address : {std::uintptr_t{0}, std::uintptr_t{kLarge + 1}}) {
      void* const data = reinterpret_cast<void*>(address);
      for (const std::size_t bytes : {std::size_t{0}, std::size_t{8}, kLarge})
        CHECK_THROWS_AS(pool.deallocate_on({}, data, bytes, 64), std::invalid_argument);
    }
  }
  CHECK(pool.statistics().live_blocks == 0);
  CHECK(pool.statistics().free_blocks == 1);
}

TEST_CASE("on stream: containers live on a stream that is not the default one") {
  HostResource host;
  Pool pool(host, {.initial_bytes = 4096});
  Held first;
  OnStream there(pool, first.stream);
  {
    std::pmr::vector<int> numbers(100, 7, &there);
    CHECK(pool.statistics().live_blocks == 1);
  }
  CHECK(pool.statistics().pending_bytes == 448);
}

}  // namespace
}  // namespace poolgrad::memory

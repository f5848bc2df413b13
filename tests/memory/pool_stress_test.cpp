// A million random operations on four streams from four threads. Work on the streams marks which
// bytes it holds, so that whoever is given them too early is seen.
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "memory/adaptors.h"
#include "memory/host_stream.h"
#include "memory/pool.h"

namespace poolgrad::memory {
namespace {

constexpr std::size_t kUnit = 64;
constexpr std::size_t kRegionBytes = std::size_t{32} << 20U;
constexpr int kStreams = 4, kThreads = 4;

/// All that the pool is given comes from one stretch of addresses, which begins where this says.
struct Region final : Adaptor {
  using Adaptor::Adaptor;
  std::byte* begin = nullptr;
  void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override {
    void* const data = upstream().allocate_on(stream, bytes, alignment);
    if (begin == nullptr) begin = static_cast<std::byte*>(data);
    return data;
  }
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t on) override {
    upstream().deallocate_on(stream, data, bytes, on);
  }
};

struct Block {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  int stream = -1;  // -1: the calling thread
  std::uint32_t id = 0;
};

/// The model: who holds each unit of the region at the moment, as the streams' work sees it.
class Holders {
 public:
  Holders(const Region& region, bool touch) : region_(region), touch_(touch) {}

  void claim(const Block& block) {
    for (std::size_t i = first(block); i < end(block); ++i) {
      if (units_[i].load(std::memory_order_relaxed) != 0) ++violations;
      units_[i].store(block.id, std::memory_order_relaxed);
    }
    if (touch_) block.data[0] = block.data[block.bytes - 1] = std::byte(block.id);
  }

  void let_go(const Block& block) {
    if (touch_ && block.data[block.bytes - 1] != std::byte(block.id)) ++violations;
    for (std::size_t i = first(block); i < end(block); ++i) {
      if (units_[i].load(std::memory_order_relaxed) != block.id) ++violations;
      units_[i].store(0, std::memory_order_relaxed);
    }
  }

  std::atomic<std::size_t> violations = 0;

 private:
  [[nodiscard]] std::size_t first(const Block& block) const {
    return static_cast<std::size_t>(block.data - region_.begin) / kUnit;
  }
  [[nodiscard]] std::size_t end(const Block& block) const {
    return first(block) + (block.bytes + kUnit - 1) / kUnit;
  }

  const Region& region_;
  bool touch_;  // plain writes too, for the thread sanitizer to judge
  std::vector<std::atomic<std::uint32_t>> units_ =
      std::vector<std::atomic<std::uint32_t>>(kRegionBytes / kUnit);
};

struct Case {
  PoolOptions pool{};
  const StreamOps* ops = nullptr;  // in place of the streams' own
  bool hold_first = false;         // the first stream's work, until all else is queued
  int operations = 1'000'000;
};

struct Outcome {
  std::size_t violations = 0;
  PoolStatistics end{};
  std::size_t upstream_live_bytes = 0;
};

class Stress {
 public:
  explicit Stress(const Case& what)
      : what_(what), pool_(grown_, what.pool), holders_(region_, what.ops == nullptr) {}

  Outcome run() {
    std::atomic<bool> open = !what_.hold_first;
    streams_[0].enqueue([&] { open.wait(false); });
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([this, t] { operate(static_cast<unsigned>(t)); });
    }
    for (std::thread& thread : threads) thread.join();
    open = true;
    open.notify_all();
    for (HostStream& stream : streams_) stream.synchronize();
    Outcome outcome{holders_.violations, pool_.statistics()};
    pool_.trim();
    outcome.upstream_live_bytes = grown_.live_bytes();
    return outcome;
  }

 private:
  using Random = std::mt19937;

  void operate(unsigned seed) {
    Random random(seed);
    std::vector<Block> live;
    for (int i = 0; i < what_.operations / kThreads; ++i) {
      if (i % 10'000 == 9'999) pool_.trim();
      const bool allocate = live.empty() || (live.size() < 200 && random() % 2 == 0);
      if (!allocate || !take(random, live)) give(random, live);
    }
    while (!live.empty()) give(random, live);
    const std::lock_guard lock(mutex_);
    while (!left_.empty()) give(random, left_);
  }

  bool take(Random& random, std::vector<Block>& live) {
    Block block{.bytes = 1 + random() % (std::size_t{64} << random() % (random() % 64 ? 7 : 14)),
                .stream = static_cast<int>(random() % 9) / 2};
    if (block.stream == kStreams) block.stream = -1;
    try {
      block.data =
          static_cast<std::byte*>(pool_.allocate_on(pool_stream(block.stream), block.bytes, 64));
    } catch (const OutOfMemory&) {
      if (live.empty()) std::this_thread::yield();
      return live.empty();
    }
    block.id = ++ids_;
    on(block.stream, [this, block] { holders_.claim(block); });
    live.push_back(block);
    return true;
  }

  /// Frees some block of `live`, or one that another thread left instead.
  void give(Random& random, std::vector<Block>& live) {
    std::swap(live[random() % live.size()], live.back());
    Block block = live.back();
    live.pop_back();
    if (&live != &left_ && random() % 8 == 0) {
      const std::lock_guard lock(mutex_);
      if (left_.size() < 64) return left_.push_back(block);
      std::swap(left_[random() % 64], block);
    }
    on(block.stream, [this, block] { holders_.let_go(block); });
    int stream = block.stream;
    if (random() % 8 == 0) {  // on another stream, which comes after
      stream = static_cast<int>(random() % kStreams);
      if (block.stream >= 0) streams_[stream].stream().wait(Event(own_stream(block.stream)));
    }
    pool_.deallocate_on(pool_stream(stream), block.data, block.bytes, 64);
  }

  template <typename F>
  void on(int stream, const F& work) {
    stream < 0 ? work() : streams_[stream].enqueue(work);
  }

  [[nodiscard]] Stream own_stream(int stream) const {
    return stream < 0 ? Stream{} : streams_[stream].stream();
  }
  [[nodiscard]] Stream pool_stream(int stream) const {
    Stream result = own_stream(stream);
    if (!result.is_caller() && what_.ops != nullptr) result.ops = what_.ops;
    return result;
  }

  Case what_;
  HostResource host_;
  Region region_{host_};
  Pool slabs_{region_, {.initial_bytes = kRegionBytes, .limit_bytes = kRegionBytes}};
  Statistics grown_{slabs_};
  Pool pool_;
  Holders holders_;
  HostStream streams_[kStreams];
  std::atomic<std::uint32_t> ids_ = 0;
  std::mutex mutex_;
  std::vector<Block> left_;
};

void check_sound(const Outcome& outcome) {
  CHECK(outcome.violations == 0);
  CHECK(outcome.end.live_bytes == 0);
  CHECK(outcome.end.live_blocks == 0);
  CHECK(outcome.end.pending_bytes == 0);
  CHECK(outcome.end.free_blocks == outcome.end.slabs);  // each in one piece
  CHECK(outcome.end.free_bytes == outcome.end.reserved_bytes);
  CHECK(outcome.upstream_live_bytes == 0);
}

TEST_CASE("pool: a million operations on four streams and threads hold to the order of streams") {
  check_sound(Stress({.pool = {.growth_bytes = std::size_t{1} << 20U,
                               .limit_bytes = std::size_t{24} << 20U}})
                  .run());
}

TEST_CASE("pool: so they do where bytes must have been passed, and memory is short") {
  check_sound(Stress({.pool = {.growth_bytes = std::size_t{1} << 18U,
                               .limit_bytes = std::size_t{6} << 20U,
                               .reuse = Reuse::passed},
                      .operations = 200'000})
                  .run());
}

/// Streams as they are, but what asks or waits for their events is told that they have passed.
StreamOps lying() {
  HostStream stream;
  StreamOps ops = *stream.stream().ops;
  ops.done = [](void*) { return true; };
  ops.await = [](void*) {};
  ops.make_wait = [](void*, void*) {};
  return ops;
}

TEST_CASE("pool: the model sees it where events lie") {
  const StreamOps lies = lying();
  for (const Reuse reuse : {Reuse::passed, Reuse::wait}) {
    Case what{.pool = {.growth_bytes = std::size_t{1} << 20U, .reuse = reuse},
              .hold_first = true,
              .operations = 20'000};
    CHECK(Stress(what).run().violations == 0);
    what.ops = &lies;
    CHECK(Stress(what).run().violations > 0);
  }
}

}  // namespace
}  // namespace poolgrad::memory

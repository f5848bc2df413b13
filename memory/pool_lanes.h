// Lanes: what threads keep by them so that they need not wait for each other at the pool's lock.
// Internal to memory/.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <thread>

#include "memory/pool_blocks.h"

namespace poolgrad::memory {

/// A lock for a few dozen instructions: one exchange where nobody else has it.
class ShortLock {
 public:
  bool try_lock() { return !taken_.exchange(true, std::memory_order_acquire); }
  void lock() {
    for (int spin = 0; !try_lock(); ++spin) {
      if (spin > kSpins) std::this_thread::yield();
      while (taken_.load(std::memory_order_relaxed) && spin++ < kSpins) pause();
    }
  }
  void unlock() { taken_.store(false, std::memory_order_release); }

 private:
  static constexpr int kSpins = 200;

  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  std::atomic<bool> taken_ = false;
};

/// Blocks that stay with the thread that freed them, until somebody needs their bytes. For the pool
/// they are live. Only blocks of the default stream: there is no order but the caller's.
///
/// A thread has a lane, which it shares with few others or none. A lane knows the blocks it gave
/// out again; any thread may free them.
class Lanes {
 public:
  /// A block of exactly `bytes` that this thread's lane kept; null when it has none. Throws
  /// std::bad_alloc.
  Block* take(std::size_t bytes);

  struct Freed {
    bool found = false;     // this thread's lane had given it out
    Block* over = nullptr;  // a block for which there is no room in the lane now
  };
  /// Takes back what take() gave.
  Freed give_back(const void* data);
  /// Keeps a block that the pool gave out; answers one for which there is no room then, or null.
  Block* keep(Block* block);

  /// The block at `data`, given out by whatever lane, is no lane's any more; null when there is
  /// none.
  Block* withdraw(const void* data);

  /// Calls act(block) for all that is kept, which is no lane's any more.
  template <typename F>
  void empty(const F& act) {
    for (Lane& lane : lanes_) {
      const std::lock_guard lock(lane.lock);
      for (std::size_t i = 0; i < lane.count; ++i) act(lane.blocks[i]);
      lane.count = 0;
    }
  }

 private:
  static constexpr std::size_t kKept = 16;

  struct alignas(64) Lane {
    ShortLock lock;
    std::size_t count = 0;
    std::array<std::size_t, kKept> bytes{};
    std::array<Block*, kKept> blocks{};
    std::size_t next_over = 0;
    LiveBlocks out;

    /// Puts the block in; answers the one that had its place.
    Block* put(Block* block);
  };

  Lane& mine();

  std::array<Lane, 16> lanes_;
};

}  // namespace poolgrad::memory

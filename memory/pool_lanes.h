// Lanes: what threads keep by them so that they need not wait for each other at the pool's lock.
// Internal to memory/.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
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
/// A thread has a lane, which it shares with few others or none, and a lane has a few places. A
/// block that is given out again keeps its place; any thread may free it.
class Lanes {
 public:
  /// A block of exactly `bytes` that this thread's lane kept; null when it has none.
  void* take(std::size_t bytes);

  /// Takes back what take() gave; false when this thread's lane did not give it.
  bool give_back(const void* data);

  /// Keeps a block that the pool gave out; answers one for which there is no place then, or null.
  Block* keep(Block* block);

  /// The block at `data`, given out by whatever lane, is no lane's any more; null when there is
  /// none.
  Block* withdraw(const void* data);

  /// Calls act(block) for all that is kept, which is no lane's any more.
  template <typename F>
  void empty(const F& act) {
    for (Lane& lane : lanes_) {
      const std::lock_guard lock(lane.lock);
      for (std::size_t i = 0; i < kPlaces; ++i) {
        if (!is_kept(lane.keys[i])) continue;
        lane.keys[i] = 0;
        act(lane.blocks[i]);
      }
    }
  }

 private:
  static constexpr std::size_t kPlaces = 16;

  // What is in a place is one number: 0 for nothing, the address of a block that is out, the size
  // plus one of a block that is kept. Addresses and sizes are multiples of 64.
  static std::uintptr_t key_out(const void* data) { return reinterpret_cast<std::uintptr_t>(data); }
  static std::uintptr_t key_kept(std::size_t bytes) { return bytes + 1; }
  static bool is_kept(std::uintptr_t key) { return (key & 1U) != 0; }

  struct alignas(64) Lane {
    ShortLock lock;
    unsigned last = 0;  // where something was found or put last
    unsigned over = 0;  // where to look first for somebody to go
    std::array<std::uintptr_t, kPlaces> keys{};
    std::array<Block*, kPlaces> blocks{};

    /// Moves `last` there and answers true when a place holds `key`.
    bool find(std::uintptr_t key) {
      if (keys[last] == key) return true;
      for (unsigned i = 0; i < kPlaces; ++i) {
        if (keys[i] == key) return last = i, true;
      }
      return false;
    }
  };

  Lane& mine();

  std::array<Lane, 16> lanes_;
};

}  // namespace poolgrad::memory

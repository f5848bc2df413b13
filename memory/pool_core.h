// The pool's inside: slabs, blocks, streams and lanes, and who may take what. Internal to memory/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "memory/pool.h"
#include "memory/pool_blocks.h"
#include "memory/pool_lanes.h"
#include "memory/pool_pending.h"

namespace poolgrad::memory {

class PoolCore {
 public:
  PoolCore(Resource& upstream, const PoolOptions& options);
  PoolCore(const PoolCore&) = delete;
  PoolCore& operator=(const PoolCore&) = delete;
  ~PoolCore();

  void* allocate(Stream stream, std::size_t bytes, std::size_t alignment);
  /// `bytes` as allocated, or 0: tells where to look first.
  void deallocate(Stream stream, void* data, std::size_t bytes);
  PoolStatistics statistics();
  std::size_t trim();
  void forget(Stream stream);

  [[nodiscard]] Place place() const { return upstream_.place(); }

 private:
  struct Slab {
    void* data = nullptr;
    std::size_t bytes = 0;
    Block* lowest = nullptr;  // the same as long as the slab lives: neighbours join the lower one
  };
  /// Who asks, and for what.
  struct Request {
    Stream stream;
    Pending* own = nullptr;  // the stream's; null on the default stream
    std::size_t bytes = 0;   // as asked for
    std::size_t size = 0;    // in whole granules
    std::size_t alignment = 0;
    std::size_t room = 0;  // with what may be lost to alignment
  };
  /// Free neighbours, from first to last, both included.
  struct Run {
    Block* first = nullptr;
    Block* last = nullptr;
    std::size_t bytes = 0;
  };

  class Guard;
  static constexpr std::size_t kLarge = std::size_t{64} << 10U;

  // Who may have which block: from the cheapest to the last resort.
  Block* find(Request& request);
  [[nodiscard]] Block* best_usable(const Request& request) const;
  Block* after_asking(const Request& request);
  Block* join_own_run(const Request& request);
  Block* take_over(const Request& request);
  Block* join_any_run(const Request& request);
  Block* wait_here(Request& request);
  Block* grow(const Request& request);
  Block* grow_exactly(const Request& request);
  template <typename May>
  [[nodiscard]] static Run run_around(Block* block, const May& may) {
    Run run{block, block, block->bytes};
    for (Block* at = block->below; at != nullptr && at->free && may(at); at = at->below) {
      run.first = at;
      run.bytes += at->bytes;
    }
    for (Block* at = block->above; at != nullptr && at->free && may(at); at = at->above) {
      run.last = at;
      run.bytes += at->bytes;
    }
    return run;
  }
  Block* join(const Run& run, const Request& request);

  // Blocks.
  [[nodiscard]] FreeBlocks& bins_of(const Block* block) {
    return block->owner != nullptr ? block->owner->free() : free_;
  }
  void take(Block*& block, const Request& request);
  Block* split(Block* block, std::size_t bytes);
  void absorb_above(Block* block);
  void take_out(Block* block);
  void release(Block* block, Pending* owner, std::uint64_t number);
  void set_free(Block* block, Pending* owner, std::uint64_t number);

  // Streams and lanes.
  Pending& pending_of(Stream stream);
  [[nodiscard]] Pending* own_of(Stream stream) {
    return stream.is_caller() ? nullptr : &pending_of(stream);
  }
  [[nodiscard]] Pending* known(Stream stream) const;
  void settle();
  void empty_lanes();
  /// Large blocks always: who asks for one again soon gets the same, whose pages are there.
  [[nodiscard]] bool worth_a_lane(std::size_t bytes) const {
    return bytes >= kLarge || use_lanes_.load(std::memory_order_relaxed);
  }

  // Slabs.
  Block* add_slab(std::size_t bytes);
  std::size_t give_back_unused();
  [[noreturn]] void fail(std::size_t bytes) const;

  ShortLock lock_;
  std::atomic<bool> use_lanes_ = false;
  unsigned met_ = 0;  // how often the lock was taken on the default stream

  Resource& upstream_;
  PoolOptions options_;
  BlockStore blocks_;
  FreeBlocks free_;  // everybody's
  std::vector<std::unique_ptr<Pending>> pending_;
  LiveBlocks live_;
  Lanes lanes_;
  std::vector<Slab> slabs_;
  std::size_t live_bytes_ = 0;  // what lanes keep included
  std::size_t live_count_ = 0;
  std::size_t peak_bytes_ = 0;
  std::size_t reserved_bytes_ = 0;
};

}  // namespace poolgrad::memory

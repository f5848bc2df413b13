// Pool: a run-time allocator over any resource, for what no plan can foresee. Its bookkeeping lies
// apart from the bytes it manages, which it never touches. How it works is in docs/pools.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "memory/resource.h"

namespace poolgrad::memory {

/// What becomes of bytes that were freed on one stream when another one asks.
enum class Reuse : std::uint8_t {
  /// They are given once the freeing stream's work has passed the free; until then, and before
  /// OutOfMemory, the pool rather grows. Never waits.
  passed,
  /// They are given at once, and a wait is put on the taking stream. Where that cannot be done, on
  /// the default stream or between kinds of streams, the calling thread waits, but only before
  /// OutOfMemory: work on a CPU stream that allocates should take `passed`, lest it wait for
  /// itself.
  wait,
};

struct PoolOptions {
  std::size_t initial_bytes = 0;  // taken at once
  std::size_t growth_bytes = 0;   // least size of a slab; 0: as much again as there is, 1 to 64 MiB
  std::size_t limit_bytes = 0;    // of all slabs together; 0: none
  Reuse reuse = Reuse::wait;
};

/// A pool at one moment. Blocks are counted in whole granules of 64 bytes.
struct PoolStatistics {
  std::size_t live_bytes = 0;
  std::size_t peak_bytes = 0;      // most ever live; what threads kept by them counts, too
  std::size_t reserved_bytes = 0;  // taken from upstream
  std::size_t live_blocks = 0;
  std::size_t free_blocks = 0;
  std::size_t free_bytes = 0;
  std::size_t largest_free_bytes = 0;
  std::size_t pending_bytes = 0;  // of the free ones: freed on a stream that has not got there yet
  std::size_t slabs = 0;

  /// 1 - largest free block / all free bytes: 0 when what is free is in one piece.
  [[nodiscard]] double fragmentation() const {
    if (free_bytes == 0) return 0.0;
    return 1.0 - static_cast<double>(largest_free_bytes) / static_cast<double>(free_bytes);
  }
};

/// Slabs from `upstream`, cut into blocks: the smallest free block that fits is taken (among
/// equals the one freed last), what is left of it stays free, and freed neighbours become one
/// block.
///
/// In the order of streams: bytes freed on a stream may be used at once by later work on it, by
/// other streams and by the calling thread as PoolOptions::reuse says. What is freed on the default
/// stream is anybody's at once. Blocks that wait for different streams become one when both have
/// passed, or when one stream needs them together.
///
/// Blocks begin on 64 bytes or more. Once it has grown to what a repeated pattern needs, the pool
/// calls neither upstream nor the heap. Safe to call from several threads: there is one lock, and
/// each thread keeps some of the blocks that it frees on the default stream by it, large ones and
/// where threads meet small ones too, until somebody needs more than is free.
class Pool final : public Resource {
 public:
  /// `upstream` must outlive the pool. Throws OutOfMemory when the initial bytes cannot be had.
  explicit Pool(Resource& upstream, const PoolOptions& options = {});
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  /// Waits for the streams on which blocks were freed, and gives every slab back, blocks still
  /// live included.
  ~Pool() override;

  /// Throws OutOfMemory when no free block fits and upstream gives no further slab. The message
  /// says what is live, what is free, in how large a piece, and the limit.
  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;

  /// Throws std::invalid_argument for an address that is not live here (freed twice, or another's).
  /// A block may be freed on another stream than it was taken on, if that one comes after all use.
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;

  [[nodiscard]] Place place() const override;
  /// Asks the streams how far they are.
  [[nodiscard]] PoolStatistics statistics() const;

  /// Gives slabs with no live block back to upstream, if all streams have passed their blocks;
  /// answers how many bytes that were. Does not wait.
  std::size_t trim();

  /// For a stream that is about to be destroyed, when its handle may come to mean another: a CUDA
  /// stream. What was freed on it is given to others once its work is done. A HostStream needs no
  /// such call.
  void forget(Stream stream);

 private:
  std::unique_ptr<class PoolCore> core_;
};

}  // namespace poolgrad::memory

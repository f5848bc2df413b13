// Pool: a run-time allocator over any resource, for what no plan can foresee. Its bookkeeping lies
// apart from the bytes it manages, which it never touches. Streams are not told apart yet.
#pragma once

#include <cstddef>
#include <memory>

#include "memory/resource.h"

namespace poolgrad::memory {

struct PoolOptions {
  std::size_t initial_bytes = 0;  // taken at once
  std::size_t growth_bytes = 0;   // least size of a slab; 0: as much again as there is, 1 to 64 MiB
  std::size_t limit_bytes = 0;    // of all slabs together; 0: none
};

/// A pool at one moment. Blocks are counted in whole granules of 64 bytes.
struct PoolStatistics {
  std::size_t live_bytes = 0;
  std::size_t peak_bytes = 0;      // most ever live
  std::size_t reserved_bytes = 0;  // taken from upstream
  std::size_t live_blocks = 0;
  std::size_t free_blocks = 0;
  std::size_t free_bytes = 0;
  std::size_t largest_free_bytes = 0;
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
/// Blocks begin on 64 bytes or more. Once it has grown to what a repeated pattern needs, the pool
/// calls neither upstream nor the heap. Safe to call from several threads (one lock).
class Pool final : public Resource {
 public:
  /// `upstream` must outlive the pool. Throws OutOfMemory when the initial bytes cannot be had.
  explicit Pool(Resource& upstream, const PoolOptions& options = {});
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  /// Gives every slab back, blocks still live included.
  ~Pool() override;

  /// Throws OutOfMemory when no free block fits and upstream gives no further slab. The message
  /// says what is live, what is free, and in how large a piece.
  [[nodiscard]] void* allocate_on(Stream stream, std::size_t bytes, std::size_t alignment) override;

  /// Throws std::invalid_argument for an address that is not live here (freed twice, or another's).
  void deallocate_on(Stream stream, void* data, std::size_t bytes, std::size_t alignment) override;

  [[nodiscard]] Place place() const override;
  [[nodiscard]] PoolStatistics statistics() const;

  /// Gives slabs with no live block back to upstream; answers how many bytes that were.
  std::size_t trim();

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace poolgrad::memory

// Pool blocks: the bookkeeping of a pool, apart from the bytes it describes. Where slabs come from
// is not here. Internal to memory/.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace poolgrad::memory {

inline constexpr std::size_t kGranule = 64;  // blocks are whole numbers of these

class Pending;

/// Consecutive bytes of one slab, free or live.
struct Block {
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  Block* below = nullptr;  // neighbours in the slab
  Block* above = nullptr;
  Block* previous = nullptr;  // neighbours in its bin, while free
  Block* next = nullptr;
  bool free = false;

  // While free and not yet everybody's: the stream it was freed on, the number of the event it
  // waits for, and its neighbours in the order in which that stream's blocks were freed.
  Pending* owner = nullptr;
  std::uint64_t number = 0;
  Block* older = nullptr;
  Block* newer = nullptr;
};

/// Makes blocks, and makes them again out of those given back.
class BlockStore {
 public:
  /// After this, take() succeeds `count` times. Throws std::bad_alloc.
  void reserve(std::size_t count) {
    for (; spare_count_ < count; ++spare_count_) push(&all_.emplace_back());
  }

  Block* take() {
    Block* block = spare_;
    spare_ = block->next;
    --spare_count_;
    *block = {};
    return block;
  }

  void give_back(Block* block) {
    push(block);
    ++spare_count_;
  }

 private:
  void push(Block* block) {
    block->next = spare_;
    spare_ = block;
  }

  std::deque<Block> all_;
  Block* spare_ = nullptr;
  std::size_t spare_count_ = 0;
};

/// The free blocks by size: a bin per size up to 15 granules, then 16 bins per power of two, each
/// in ascending order, so that the first that fits fits best. Of equal ones the last freed is
/// first.
class FreeBlocks {
 public:
  void insert(Block* block);
  void remove(Block* block);

  /// The smallest of at least `bytes`; null when there is none.
  [[nodiscard]] Block* best_fit(std::size_t bytes) const;

  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }
  [[nodiscard]] std::size_t largest_bytes() const;

 private:
  static constexpr std::size_t kBins = 16 + 16 * 54;

  static std::size_t bin_of(std::size_t bytes);
  /// The first bin from `bin` on that is not empty; kBins when all are.
  [[nodiscard]] std::size_t next_used(std::size_t bin) const;

  std::array<Block*, kBins> bins_{};
  std::array<std::uint64_t, (kBins + 63) / 64> used_{};  // a bit per bin that is not empty
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
};

/// The live blocks by address: a hash table with linear probing.
class LiveBlocks {
 public:
  /// After this, one insert() needs no memory. Throws std::bad_alloc.
  void reserve_one();
  void insert(Block* block);
  /// Takes out the block that begins at `data`; null when there is none.
  Block* remove(const void* data);

  [[nodiscard]] std::size_t count() const { return count_; }

 private:
  [[nodiscard]] std::size_t home(const void* data) const;
  /// Where it stands, or the empty place where it would.
  [[nodiscard]] std::size_t place_of(const void* data) const;

  std::vector<Block*> table_;  // a power of two, at most half full
  std::size_t count_ = 0;
};

}  // namespace poolgrad::memory

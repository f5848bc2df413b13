// Slabs, splitting and coalescing. The bookkeeping itself is in pool_blocks.
#include "memory/pool.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "memory/pool_blocks.h"

namespace poolgrad::memory {
namespace {

constexpr std::size_t kPage = 4096;  // slabs begin on it
constexpr std::size_t kMiB = std::size_t{1} << 20U;

}  // namespace

class Pool::State {
 public:
  State(Resource& upstream, const PoolOptions& options) : upstream_(upstream), options_(options) {
    if (options_.initial_bytes == 0) return;
    const auto bytes = checked_aligned(options_.initial_bytes, kPage);
    blocks_.reserve(1);
    slabs_.reserve(1);
    if (!bytes || add_slab(*bytes) == nullptr) fail(options_.initial_bytes);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    for (const Slab& slab : slabs_) upstream_.deallocate(slab.data, slab.bytes, kPage);
  }

  [[nodiscard]] Place place() const { return upstream_.place(); }

  void* allocate(std::size_t bytes, std::size_t alignment) {
    const std::lock_guard lock(mutex_);
    const std::size_t spare = std::max(alignment, kGranule) - kGranule;
    const auto size = checked_aligned(std::max<std::size_t>(bytes, 1), kGranule);
    if (!size || spare > std::numeric_limits<std::size_t>::max() - *size) fail(bytes);
    blocks_.reserve(2);
    live_.reserve_one();

    Block* block = free_.best_fit(*size + spare);
    if (block == nullptr) block = grow(*size + spare, bytes);
    free_.remove(block);
    const auto begin = reinterpret_cast<std::uintptr_t>(block->data);
    if (const std::size_t before = aligned(begin, alignment) - begin; before > 0) {
      Block* const rest = split(block, before);
      free_.insert(block);
      block = rest;
    }
    if (block->bytes > *size) free_.insert(split(block, *size));
    live_.insert(block);
    live_bytes_ += block->bytes;
    peak_bytes_ = std::max(peak_bytes_, live_bytes_);
    return block->data;
  }

  void deallocate(void* data) {
    const std::lock_guard lock(mutex_);
    Block* block = live_.remove(data);
    if (block == nullptr) {
      throw std::invalid_argument(
          "pool: an address was given back that is not live here; it was freed twice or belongs "
          "to another resource");
    }
    live_bytes_ -= block->bytes;
    if (block->above != nullptr && block->above->free) {
      free_.remove(block->above);
      absorb_above(block);
    }
    if (block->below != nullptr && block->below->free) {
      block = block->below;
      free_.remove(block);
      absorb_above(block);
    }
    free_.insert(block);
  }

  [[nodiscard]] PoolStatistics statistics() const {
    const std::lock_guard lock(mutex_);
    return {.live_bytes = live_bytes_,
            .peak_bytes = peak_bytes_,
            .reserved_bytes = reserved_bytes_,
            .live_blocks = live_.count(),
            .free_blocks = free_.count(),
            .free_bytes = free_.bytes(),
            .largest_free_bytes = free_.largest_bytes(),
            .slabs = slabs_.size()};
  }

  std::size_t trim() {
    const std::lock_guard lock(mutex_);
    return give_back_unused();
  }

 private:
  struct Slab {
    void* data = nullptr;
    std::size_t bytes = 0;
    Block* lowest = nullptr;  // the same as long as the slab lives: neighbours join the lower one
  };

  /// The upper part of `block`, from `bytes` on, as a block of its own.
  Block* split(Block* block, std::size_t bytes) {
    Block* const upper = blocks_.take();
    upper->data = block->data + bytes;
    upper->bytes = block->bytes - bytes;
    upper->below = block;
    upper->above = std::exchange(block->above, upper);
    if (upper->above != nullptr) upper->above->below = upper;
    block->bytes = bytes;
    return upper;
  }

  void absorb_above(Block* block) {
    Block* const upper = block->above;
    block->bytes += upper->bytes;
    block->above = upper->above;
    if (block->above != nullptr) block->above->below = block;
    blocks_.give_back(upper);
  }

  /// A new slab as one free block of at least `bytes`, for a caller who asked for `requested`.
  Block* grow(std::size_t bytes, std::size_t requested) {
    const std::size_t usual = options_.growth_bytes > 0
                                  ? options_.growth_bytes
                                  : std::clamp(reserved_bytes_, kMiB, 64 * kMiB);
    const auto wanted = checked_aligned(std::max(bytes, usual), kPage);
    if (!wanted) fail(requested);
    blocks_.reserve(3);  // the slab's, and two for the splits that follow
    slabs_.reserve(slabs_.size() + 1);
    if (Block* block = add_slab(*wanted)) return block;
    if (Block* block = add_slab(bytes)) return block;  // if need be, no more than is asked for
    if (give_back_unused() > 0) {
      if (Block* block = add_slab(bytes)) return block;
    }
    fail(requested);
  }

  /// Null when the limit or upstream does not allow it.
  Block* add_slab(std::size_t bytes) {
    if (options_.limit_bytes > 0 && (reserved_bytes_ > options_.limit_bytes ||
                                     bytes > options_.limit_bytes - reserved_bytes_)) {
      return nullptr;
    }
    void* data = nullptr;
    try {
      data = upstream_.allocate(bytes, kPage);
    } catch (const std::bad_alloc&) {
      return nullptr;  // the caller tries less, or says what is missing
    }
    Block* const block = blocks_.take();
    block->data = static_cast<std::byte*>(data);
    block->bytes = bytes;
    slabs_.push_back({data, bytes, block});
    reserved_bytes_ += bytes;
    free_.insert(block);
    return block;
  }

  std::size_t give_back_unused() {
    std::size_t bytes = 0;
    std::erase_if(slabs_, [&](const Slab& slab) {
      if (!slab.lowest->free || slab.lowest->above != nullptr) return false;
      free_.remove(slab.lowest);
      blocks_.give_back(slab.lowest);
      upstream_.deallocate(slab.data, slab.bytes, kPage);
      bytes += slab.bytes;
      return true;
    });
    reserved_bytes_ -= bytes;
    return bytes;
  }

  [[noreturn]] void fail(std::size_t bytes) const {
    const std::string limit = options_.limit_bytes > 0
                                  ? " within the limit of " + std::to_string(options_.limit_bytes)
                                  : " as upstream gives no more";
    throw OutOfMemory(
        "pool: " + std::to_string(bytes) + " bytes requested with " + std::to_string(live_bytes_) +
            " of " + std::to_string(reserved_bytes_) + " live and the largest free block " +
            std::to_string(free_.largest_bytes()) + limit + "; free some or ask for less",
        bytes, live_bytes_, options_.limit_bytes);
  }

  mutable std::mutex mutex_;
  Resource& upstream_;
  PoolOptions options_;
  BlockStore blocks_;
  FreeBlocks free_;
  LiveBlocks live_;
  std::vector<Slab> slabs_;
  std::size_t live_bytes_ = 0;
  std::size_t peak_bytes_ = 0;
  std::size_t reserved_bytes_ = 0;
};

Pool::Pool(Resource& upstream, const PoolOptions& options)
    : state_(std::make_unique<State>(upstream, options)) {}

Pool::~Pool() = default;

void* Pool::allocate_on(Stream, std::size_t bytes, std::size_t alignment) {
  return state_->allocate(bytes, alignment);
}

void Pool::deallocate_on(Stream, void* data, std::size_t, std::size_t) { state_->deallocate(data); }

Place Pool::place() const { return state_->place(); }

PoolStatistics Pool::statistics() const { return state_->statistics(); }

std::size_t Pool::trim() { return state_->trim(); }

}  // namespace poolgrad::memory

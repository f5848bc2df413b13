// Taking and giving back: splitting, joining, slabs. Which block is taken is in pool_find.
#include "memory/pool_core.h"

#include <algorithm>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

namespace poolgrad::memory {
namespace {

constexpr std::size_t kPage = 4096;  // slabs begin on it
constexpr std::size_t kMiB = std::size_t{1} << 20U;
constexpr unsigned kMeetings = 8;  // of threads at the lock, before small blocks go by lanes

}  // namespace

/// Holds the lock, and notices threads that meet at it.
class PoolCore::Guard {
 public:
  Guard(PoolCore& core, Stream stream) : lock_(core.lock_) {
    if (lock_.try_lock()) return;
    lock_.lock();
    if (stream.is_caller() && ++core.met_ == kMeetings) core.use_lanes_ = true;
  }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
  ~Guard() { lock_.unlock(); }

 private:
  ShortLock& lock_;
};

PoolCore::PoolCore(Resource& upstream, const PoolOptions& options)
    : upstream_(upstream), options_(options) {
  if (options_.initial_bytes == 0) return;
  const auto bytes = checked_aligned(options_.initial_bytes, kPage);
  if (!bytes || add_slab(*bytes) == nullptr) fail(options_.initial_bytes);
}

PoolCore::~PoolCore() {
  for (const auto& pending : pending_) pending->wait();
  for (const Slab& slab : slabs_) upstream_.deallocate(slab.data, slab.bytes, kPage);
}

void* PoolCore::allocate(Stream stream, std::size_t bytes, std::size_t alignment) {
  const std::size_t spare = std::max(alignment, kGranule) - kGranule;
  const auto size = checked_aligned(std::max<std::size_t>(bytes, 1), kGranule);
  if (size && spare == 0 && stream.is_caller() && worth_a_lane(*size)) {
    if (void* data = lanes_.take(*size)) return data;
  }
  const Guard guard(*this, stream);
  if (!size || spare > std::numeric_limits<std::size_t>::max() - *size) fail(bytes);
  blocks_.reserve(2);
  live_.reserve_one();
  Request request{.stream = stream,
                  .own = own_of(stream),
                  .bytes = bytes,
                  .size = *size,
                  .alignment = alignment,
                  .room = *size + spare};
  Block* block = find(request);
  take(block, request);
  live_.insert(block);
  ++live_count_;
  live_bytes_ += block->bytes;
  peak_bytes_ = std::max(peak_bytes_, live_bytes_);
  return block->data;
}

void PoolCore::deallocate(Stream stream, void* data, std::size_t bytes) {
  // Lanes know blocks by numbers, of which any other address may look like one.
  const bool possible = data != nullptr && reinterpret_cast<std::uintptr_t>(data) % kGranule == 0;
  const bool looked_for = bytes == 0 || worth_a_lane(aligned(bytes, kGranule));
  if (stream.is_caller() && possible && looked_for && lanes_.give_back(data)) return;
  const Guard guard(*this, stream);
  Pending* const owner = own_of(stream);
  const std::uint64_t number = owner != nullptr ? owner->mark() : 0;  // may throw: nothing is done
  Block* block = live_.remove(data);
  if (block == nullptr && possible) block = lanes_.withdraw(data);
  if (block == nullptr) {
    throw std::invalid_argument(
        "pool: an address was given back that is not live here; it was freed twice or belongs "
        "to another resource");
  }
  if (stream.is_caller() && worth_a_lane(block->bytes)) block = lanes_.keep(block);
  if (block != nullptr) release(block, owner, number);
}

/// Out of the free ones; `block` becomes the part that was asked for.
void PoolCore::take(Block*& block, const Request& request) {
  Pending* const owner = block->owner;
  FreeBlocks& bins = bins_of(block);
  bins.remove(block);
  const auto keep_behind = [&](Block* lower, Block* upper) {
    owner != nullptr ? owner->insert_behind(lower, upper) : bins.insert(upper);
  };
  const auto begin = reinterpret_cast<std::uintptr_t>(block->data);
  if (const std::size_t before = aligned(begin, request.alignment) - begin; before > 0) {
    Block* const rest = split(block, before);
    bins.insert(block);
    if (rest->bytes > request.size) keep_behind(block, split(rest, request.size));
    block = rest;
    return;
  }
  if (block->bytes > request.size) keep_behind(block, split(block, request.size));
  if (owner != nullptr) owner->unlink(block);
}

/// The upper part of `block`, from `bytes` on, as a block of its own, nobody's yet.
Block* PoolCore::split(Block* block, std::size_t bytes) {
  Block* const upper = blocks_.take();
  upper->data = block->data + bytes;
  upper->bytes = block->bytes - bytes;
  upper->below = block;
  upper->above = std::exchange(block->above, upper);
  if (upper->above != nullptr) upper->above->below = upper;
  block->bytes = bytes;
  return upper;
}

void PoolCore::absorb_above(Block* block) {
  Block* const upper = block->above;
  block->bytes += upper->bytes;
  block->above = upper->above;
  if (block->above != nullptr) block->above->below = block;
  blocks_.give_back(upper);
}

/// Out of the free ones, whose ever it was.
void PoolCore::take_out(Block* block) {
  bins_of(block).remove(block);
  if (block->owner != nullptr) block->owner->unlink(block);
}

/// A live block becomes a free one that waits for event `number` of `owner`, or everybody's.
void PoolCore::release(Block* block, Pending* owner, std::uint64_t number) {
  --live_count_;
  live_bytes_ -= block->bytes;
  set_free(block, owner, number);
}

/// Joins its neighbours of the same owner.
void PoolCore::set_free(Block* block, Pending* owner, std::uint64_t number) {
  if (block->above != nullptr && block->above->free && block->above->owner == owner) {
    take_out(block->above);
    absorb_above(block);
  }
  if (block->below != nullptr && block->below->free && block->below->owner == owner) {
    block = block->below;
    take_out(block);
    absorb_above(block);
  }
  owner != nullptr ? owner->insert(block, number) : free_.insert(block);
}

PoolStatistics PoolCore::statistics() {
  const std::lock_guard guard(lock_);
  empty_lanes();
  settle();
  PoolStatistics result{.live_bytes = live_bytes_,
                        .peak_bytes = peak_bytes_,
                        .reserved_bytes = reserved_bytes_,
                        .live_blocks = live_count_,
                        .free_blocks = free_.count(),
                        .free_bytes = free_.bytes(),
                        .largest_free_bytes = free_.largest_bytes(),
                        .slabs = slabs_.size()};
  for (const auto& pending : pending_) {
    result.free_blocks += pending->free().count();
    result.free_bytes += pending->free().bytes();
    result.pending_bytes += pending->free().bytes();
    result.largest_free_bytes =
        std::max(result.largest_free_bytes, pending->free().largest_bytes());
  }
  return result;
}

std::size_t PoolCore::trim() {
  const std::lock_guard guard(lock_);
  empty_lanes();
  settle();
  return give_back_unused();
}

void PoolCore::forget(Stream stream) {
  const std::lock_guard guard(lock_);
  if (Pending* pending = known(stream)) pending->close();
}

Pending* PoolCore::known(Stream stream) const {
  for (const auto& pending : pending_) {
    if (pending->is_of(stream)) return pending.get();
  }
  return nullptr;
}

Pending& PoolCore::pending_of(Stream stream) {
  if (Pending* pending = known(stream)) return *pending;
  for (const auto& pending : pending_) {
    if (!pending->idle()) continue;
    pending->open(stream);  // in place of a stream that may be gone by now
    return *pending;
  }
  return *pending_.emplace_back(std::make_unique<Pending>(stream));
}

/// What waits for nothing any more becomes everybody's.
void PoolCore::settle() {
  for (const auto& pending : pending_) {
    pending->poll();
    while (pending->oldest_passed()) {
      Block* const block = pending->oldest();
      take_out(block);
      set_free(block, nullptr, 0);
    }
  }
}

void PoolCore::empty_lanes() {
  lanes_.empty([&](Block* block) { release(block, nullptr, 0); });
}

/// A new slab as one free block of at least what is asked for; null when there is none.
Block* PoolCore::grow(const Request& request) {
  const std::size_t usual = options_.growth_bytes > 0
                                ? options_.growth_bytes
                                : std::clamp(reserved_bytes_, kMiB, 64 * kMiB);
  const auto wanted = checked_aligned(std::max(request.room, usual), kPage);
  if (!wanted) return nullptr;
  if (Block* block = add_slab(*wanted)) return block;
  return grow_exactly(request);  // if need be, no more than is asked for
}

Block* PoolCore::grow_exactly(const Request& request) {
  if (Block* block = add_slab(request.room)) return block;
  return give_back_unused() > 0 ? add_slab(request.room) : nullptr;
}

/// Null when the limit or upstream does not allow it.
Block* PoolCore::add_slab(std::size_t bytes) {
  if (options_.limit_bytes > 0 &&
      (reserved_bytes_ > options_.limit_bytes || bytes > options_.limit_bytes - reserved_bytes_)) {
    return nullptr;
  }
  blocks_.reserve(3);  // the slab's, and two for the splits that follow
  slabs_.reserve(slabs_.size() + 1);
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

std::size_t PoolCore::give_back_unused() {
  std::size_t bytes = 0;
  std::erase_if(slabs_, [&](const Slab& slab) {
    const Block* const lowest = slab.lowest;
    if (!lowest->free || lowest->owner != nullptr || lowest->above != nullptr) return false;
    free_.remove(slab.lowest);
    blocks_.give_back(slab.lowest);
    upstream_.deallocate(slab.data, slab.bytes, kPage);
    bytes += slab.bytes;
    return true;
  });
  reserved_bytes_ -= bytes;
  return bytes;
}

void PoolCore::fail(std::size_t bytes) const {
  std::size_t largest = 0, pending = 0;
  for (const Slab& slab : slabs_) {
    for (Block* block = slab.lowest; block != nullptr; block = block->above) {
      if (!block->free || (block->below != nullptr && block->below->free)) continue;
      largest = std::max(largest, run_around(block, [](const Block*) { return true; }).bytes);
    }
  }
  for (const auto& each : pending_) pending += each->free().bytes();
  const std::string waiting =
      pending > 0 ? " (" + std::to_string(pending) + " free bytes wait for streams)" : "";
  const std::string limit = options_.limit_bytes > 0
                                ? " within the limit of " + std::to_string(options_.limit_bytes)
                                : " as upstream gives no more";
  throw OutOfMemory("pool: " + std::to_string(bytes) + " bytes requested with " +
                        std::to_string(live_bytes_) + " of " + std::to_string(reserved_bytes_) +
                        " live and the largest free run " + std::to_string(largest) + waiting +
                        limit + "; free some or ask for less",
                    bytes, live_bytes_, options_.limit_bytes);
}

}  // namespace poolgrad::memory

// Which free block a stream is given, from the cheapest answer to the last before OutOfMemory.
#include <chrono>
#include <thread>

#include "memory/pool_core.h"

namespace poolgrad::memory {

Block* PoolCore::find(Request& request) {
  if (Block* block = best_usable(request)) return block;
  if (Block* block = after_asking(request)) return block;
  if (Block* block = grow(request)) return block;
  if (options_.reuse == Reuse::wait) {
    if (Block* block = join_any_run(request)) return block;
    if (Block* block = wait_here(request)) return block;
  }
  fail(request.bytes);
}

/// The best fit among the stream's own blocks and those that are everybody's.
Block* PoolCore::best_usable(const Request& request) const {
  Block* const shared = free_.best_fit(request.room);
  if (request.own == nullptr) return shared;
  Block* const own = request.own->free().best_fit(request.room);
  if (own == nullptr || shared == nullptr) return own != nullptr ? own : shared;
  return shared->bytes < own->bytes ? shared : own;
}

/// All that keeps the slabs as they are and lets the calling thread go on.
Block* PoolCore::after_asking(const Request& request) {
  settle();
  empty_lanes();
  if (Block* block = best_usable(request)) return block;
  if (Block* block = join_own_run(request)) return block;
  return take_over(request);
}

/// The smallest run that fits, of the stream's own blocks and everybody's between them.
Block* PoolCore::join_own_run(const Request& request) {
  if (request.own == nullptr) return nullptr;
  Run best;
  for (Block* block = request.own->oldest(); block != nullptr; block = block->newer) {
    const Run run = run_around(block, [&](const Block* other) {
      return other->owner == nullptr || other->owner == request.own;
    });
    if (run.bytes >= request.room && (best.first == nullptr || run.bytes < best.bytes)) best = run;
  }
  return best.first != nullptr ? join(best, request) : nullptr;
}

/// The best fit among other streams' blocks, which the asking stream now waits for.
Block* PoolCore::take_over(const Request& request) {
  if (options_.reuse != Reuse::wait || request.own == nullptr) return nullptr;
  Block* best = nullptr;
  for (const auto& other : pending_) {
    if (!other->stream().same_kind(request.stream)) continue;
    Block* const block = other->free().best_fit(request.room);
    if (block != nullptr && (best == nullptr || block->bytes < best->bytes)) best = block;
  }
  if (best != nullptr) request.stream.wait(best->owner->event_of(best->number));
  return best;
}

/// The smallest run that fits of blocks of whatever streams, which the asking one now waits for.
Block* PoolCore::join_any_run(const Request& request) {
  if (request.own == nullptr) return nullptr;
  Run best;
  const auto may = [&](const Block* block) {
    return block->owner == nullptr || block->owner->stream().same_kind(request.stream);
  };
  for (const Slab& slab : slabs_) {
    for (Block* block = slab.lowest; block != nullptr; block = block->above) {
      if (!block->free || !may(block)) continue;
      const Run run = run_around(block, may);
      if (run.bytes >= request.room && (best.first == nullptr || run.bytes < best.bytes))
        best = run;
      block = run.last;
    }
  }
  return best.first != nullptr ? join(best, request) : nullptr;
}

/// Makes one block of the run, for the asking stream alone, which waits for all others in it.
Block* PoolCore::join(const Run& run, const Request& request) {
  for (const Block* block = run.first; block != run.last->above; block = block->above) {
    if (block->owner != nullptr && block->owner != request.own)
      request.stream.wait(block->owner->event_of(block->number));
  }
  const std::uint64_t number = request.own->mark();  // comes after those waits
  Block* const end = run.last->above;
  take_out(run.first);
  while (run.first->above != end) {
    take_out(run.first->above);
    absorb_above(run.first);
  }
  request.own->insert(run.first, number);
  return run.first;
}

/// The calling thread waits for the streams, with the lock open: others free meanwhile, and so may
/// the work that is waited for. So all may have changed since, what is kept for the stream too.
Block* PoolCore::wait_here(Request& request) {
  const auto waiting = [&] {
    for (const auto& pending : pending_) {
      if (!pending->empty()) return true;
    }
    return false;
  };
  while (waiting()) {
    lock_.unlock();
    std::this_thread::sleep_for(std::chrono::microseconds(20));
    lock_.lock();
    blocks_.reserve(2);
    live_.reserve_one();
    request.own = own_of(request.stream);
    if (Block* block = after_asking(request)) return block;
    if (Block* block = join_any_run(request)) return block;
  }
  return grow_exactly(request);
}

}  // namespace poolgrad::memory

// A few blocks per lane, looked through from the one freed last.
#include "memory/pool_lanes.h"

#include <mutex>

namespace poolgrad::memory {
namespace {

/// A number per thread, from 1.
unsigned thread_number() {
  static std::atomic<unsigned> count = 0;
  thread_local unsigned number = 0;
  if (number == 0) number = count.fetch_add(1, std::memory_order_relaxed) + 1;
  return number;
}

}  // namespace

Lanes::Lane& Lanes::mine() { return lanes_[thread_number() % lanes_.size()]; }

Block* Lanes::Lane::put(Block* block) {
  Block* over = nullptr;
  std::size_t place = count;
  if (count == kKept) {
    place = next_over++ % kKept;
    over = blocks[place];
  } else {
    ++count;
  }
  blocks[place] = block;
  bytes[place] = block->bytes;
  return over;
}

Block* Lanes::take(std::size_t wanted) {
  Lane& lane = mine();
  const std::lock_guard lock(lane.lock);
  for (std::size_t i = lane.count; i-- > 0;) {
    if (lane.bytes[i] != wanted) continue;
    lane.out.reserve_one();
    Block* const block = lane.blocks[i];
    --lane.count;
    lane.blocks[i] = lane.blocks[lane.count];
    lane.bytes[i] = lane.bytes[lane.count];
    lane.out.insert(block);
    return block;
  }
  return nullptr;
}

Lanes::Freed Lanes::give_back(const void* data) {
  Lane& lane = mine();
  const std::lock_guard lock(lane.lock);
  Block* const block = lane.out.remove(data);
  if (block == nullptr) return {};
  return {true, lane.put(block)};
}

Block* Lanes::keep(Block* block) {
  Lane& lane = mine();
  const std::lock_guard lock(lane.lock);
  return lane.put(block);
}

Block* Lanes::withdraw(const void* data) {
  for (Lane& lane : lanes_) {
    const std::lock_guard lock(lane.lock);
    if (Block* block = lane.out.remove(data)) return block;
  }
  return nullptr;
}

}  // namespace poolgrad::memory

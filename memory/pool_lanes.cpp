// A few places per lane, looked through from the one used last.
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

void* Lanes::take(std::size_t bytes) {
  Lane& lane = mine();
  const std::lock_guard lock(lane.lock);
  if (!lane.find(key_kept(bytes))) return nullptr;
  void* const data = lane.blocks[lane.last]->data;
  lane.keys[lane.last] = key_out(data);
  return data;
}

bool Lanes::give_back(const void* data) {
  Lane& lane = mine();
  const std::lock_guard lock(lane.lock);
  if (!lane.find(key_out(data))) return false;
  lane.keys[lane.last] = key_kept(lane.blocks[lane.last]->bytes);
  return true;
}

Block* Lanes::keep(Block* block) {
  Lane& lane = mine();
  const std::lock_guard lock(lane.lock);
  Block* over = nullptr;
  if (!lane.find(0)) {
    unsigned tries = 0;
    do {
      lane.over = (lane.over + 1) % kPlaces;
      if (++tries > kPlaces) return block;  // all are out
    } while (!is_kept(lane.keys[lane.over]));
    lane.last = lane.over;
    over = lane.blocks[lane.last];
  }
  lane.keys[lane.last] = key_kept(block->bytes);
  lane.blocks[lane.last] = block;
  return over;
}

Block* Lanes::withdraw(const void* data) {
  for (Lane& lane : lanes_) {
    const std::lock_guard lock(lane.lock);
    if (!lane.find(key_out(data))) continue;
    lane.keys[lane.last] = 0;
    return lane.blocks[lane.last];
  }
  return nullptr;
}

}  // namespace poolgrad::memory

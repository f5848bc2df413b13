// A list in the order of frees and a ring of events; where the ring is full, the newest event is
// moved on.
#include "memory/pool_pending.h"

namespace poolgrad::memory {

std::uint64_t Pending::mark() {
  if (count_ == kMarks) poll();
  const bool fresh = count_ < kMarks;
  Mark& mark = nth(fresh ? count_ : count_ - 1);
  mark.event.record(stream_);
  if (fresh) ++count_;
  return mark.number = ++last_;
}

const Event& Pending::event_of(std::uint64_t number) const {
  static const Event kPassed;
  for (std::size_t n = 0; n < count_; ++n) {
    if (nth(n).number >= number) return nth(n).event;
  }
  return kPassed;
}

void Pending::poll() {
  while (count_ > 0 && nth(0).event.done()) {
    passed_ = nth(0).number;
    first_ = (first_ + 1) % kMarks;
    --count_;
  }
}

void Pending::wait() const {
  if (count_ > 0) nth(count_ - 1).event.wait();
}

void Pending::insert(Block* block, std::uint64_t number) {
  block->owner = this;
  block->number = number;
  block->older = newest_;
  block->newer = nullptr;
  (newest_ != nullptr ? newest_->newer : oldest_) = block;
  newest_ = block;
  free_.insert(block);
}

void Pending::insert_behind(Block* block, Block* upper) {
  upper->owner = this;
  upper->number = block->number;
  upper->older = block;
  upper->newer = block->newer;
  (block->newer != nullptr ? block->newer->older : newest_) = upper;
  block->newer = upper;
  free_.insert(upper);
}

void Pending::unlink(Block* block) {
  (block->older != nullptr ? block->older->newer : oldest_) = block->newer;
  (block->newer != nullptr ? block->newer->older : newest_) = block->older;
  block->owner = nullptr;
}

}  // namespace poolgrad::memory

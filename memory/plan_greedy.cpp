// The greedy planner: several orders, two fits, then rounds that let the item which did not fit go
// earlier. Orders have a file of their own.
#include "memory/plan_greedy.h"

#include <algorithm>

#include "memory/plan_random.h"

namespace poolgrad::memory {
namespace {

constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();

// Beyond these numbers a further order or fit costs more time than it has been seen to be worth.
constexpr std::size_t kBothFits = 4096;
constexpr std::size_t kAllOrders = 8192;
constexpr std::size_t kFewOrders[] = {1, 4, 0, 2};  // the best ones of many items first
constexpr std::size_t kFourOrders = 16384;

}  // namespace

std::size_t Packer::run(const Order& order, Fit fit, std::size_t capacity) {
  slots_.clear();
  top_ = 0;
  for (std::size_t i = 0; i < items_.size(); ++i) {
    if (items_[i].at != kAnywhere) put(i, items_[i].at);
  }
  for (std::size_t k = 0; k < order.size(); ++k) {
    const Item& item = items_[order[k]];
    if (item.at != kAnywhere) continue;
    const std::size_t offset = find(item, fit);
    if (offset > capacity || item.size > capacity - offset) return k;
    put(order[k], offset);
  }
  return order.size();
}

/// together(), without branches: the scan spends its time here.
bool Packer::conflict(const Item& item, const Slot& slot) {
  const bool steps = (item.first < slot.last) & (slot.first < item.end);
  const bool phases = (item.first_phase < slot.end_phase) & (slot.first_phase < item.end_phase);
  const bool one_clock = (item.member == slot.member) & (item.member >= 0);
  return one_clock ? steps : phases;
}

/// Where `item` goes: the lowest gap that holds it, or the one it leaves least of, or the top.
std::size_t Packer::find(const Item& item, Fit fit) const {
  std::size_t free = 0;  // below it all is taken or too small
  std::size_t best = 0;
  std::size_t best_rest = kUnbounded;
  for (const Slot& slot : slots_) {
    if (!conflict(item, slot)) continue;
    const std::size_t offset = aligned(free, item.alignment);
    if (slot.begin >= offset && slot.begin - offset >= item.size) {
      if (fit == Fit::lowest) return offset;
      const std::size_t rest = slot.begin - offset - item.size;
      if (rest < best_rest) {
        best = offset;
        best_rest = rest;
      }
    }
    free = std::max(free, slot.end);
  }
  return best_rest < kUnbounded ? best : aligned(free, item.alignment);
}

void Packer::put(std::size_t index, std::size_t offset) {
  const Item& item = items_[index];
  offsets_[index] = offset;
  top_ = std::max(top_, offset + item.size);
  const auto above = std::ranges::upper_bound(slots_, offset, {}, &Slot::begin);
  slots_.insert(above, {offset, offset + item.size, item.first, item.end, item.first_phase,
                        item.end_phase, item.member});
}

void Greedy::place() {
  const bool all = items_.size() <= kAllOrders;
  const std::size_t count = all ? Orders::count() : items_.size() <= kFourOrders ? 4 : 2;
  for (std::size_t i = 0; i < count && !done(); ++i) {
    if (i > 0 && limits_.late()) return;
    starts_.push_back(orders_.make(all ? i : kFewOrders[i]));
    attempt(starts_.back(), Packer::Fit::lowest, top_ - 1);
    limits_.look();
  }
  if (items_.size() > kBothFits) return;
  for (const Order& order : starts_) {
    if (done() || limits_.late()) return;
    attempt(order, Packer::Fit::best, top_ - 1);
    limits_.look();
  }
}

void Greedy::improve(int rounds) {
  if (!done()) aim(goal_, rounds);
  for (std::size_t low = goal_ + 1, halvings = 0; low < top_ && halvings < 6; ++halvings) {
    const std::size_t capacity = low + (top_ - 1 - low) / 2;
    if (!aim(capacity, rounds / 4)) low = capacity + 1;
  }
}

/// Tries to get below `capacity` in `rounds` runs, from each start in turn: whoever does not fit is
/// moved to the front or to a random earlier place, and all are placed anew. A run ends at the
/// first item that does not fit, so most cost far less than a whole one.
bool Greedy::aim(std::size_t capacity, int rounds) {
  const int each = rounds / static_cast<int>(starts_.size());
  for (Order order : starts_) {
    for (int round = 0; round < each; ++round) {
      if (limits_.late()) return false;
      const std::size_t failed = attempt(order, Packer::Fit::lowest, capacity);
      limits_.look();
      if (failed == order.size()) return true;
      if (failed == 0) return false;
      const std::uint64_t drawn = draw(state_);
      const std::size_t to = drawn % 2 == 0 ? 0 : drawn / 2 % failed;
      const auto begin = order.begin();
      std::rotate(begin + static_cast<std::ptrdiff_t>(to),
                  begin + static_cast<std::ptrdiff_t>(failed),
                  begin + static_cast<std::ptrdiff_t>(failed) + 1);
    }
  }
  return false;
}

std::size_t Greedy::attempt(const Order& order, Packer::Fit fit, std::size_t capacity) {
  const std::size_t placed = packer_.run(order, fit, capacity);
  if (placed == order.size() && packer_.top() < top_) {
    top_ = packer_.top();
    offsets_ = packer_.offsets();
  }
  return placed;
}

int Greedy::default_rounds(std::size_t items) {
  constexpr std::size_t kWork = std::size_t{1} << 27U;
  return static_cast<int>(std::min<std::size_t>(8192, kWork / (items * items)));
}

}  // namespace poolgrad::memory

// The greedy planner: several orders, two fits, then rounds that let the item which did not fit go
// earlier. Bound, orders and checker have files of their own.
#include "memory/plan.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "memory/plan_items.h"
#include "memory/plan_orders.h"

namespace poolgrad::memory {
namespace {

constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();

enum class Fit { lowest, best };

/// Places items one by one, each where those placed before it leave room.
class Packer {
 public:
  explicit Packer(std::span<const Item> items) : items_(items), offsets_(items.size()) {}

  /// Places items in `order` below `capacity`. Answers how many fitted: all, or the place in the
  /// order of the first that did not.
  std::size_t run(const Order& order, Fit fit, std::size_t capacity) {
    slots_.clear();
    top_ = 0;
    for (std::size_t k = 0; k < order.size(); ++k) {
      const Item& item = items_[order[k]];
      const std::size_t offset = find(item, fit);
      if (offset > capacity || item.size > capacity - offset) return k;
      put(order[k], offset);
    }
    return order.size();
  }

  [[nodiscard]] std::size_t top() const { return top_; }
  [[nodiscard]] const std::vector<std::size_t>& offsets() const { return offsets_; }

 private:
  /// A placed item, with all that a scan needs in one place.
  struct Slot {
    std::size_t begin = 0;
    std::size_t end = 0;
    int first = 0, last = 0, first_phase = 0, end_phase = 0, member = 0;
  };

  /// together(), without branches: the scan spends its time here.
  static bool conflict(const Item& item, const Slot& slot) {
    const bool steps = (item.first < slot.last) & (slot.first < item.end);
    const bool phases = (item.first_phase < slot.end_phase) & (slot.first_phase < item.end_phase);
    const bool one_clock = (item.member == slot.member) & (item.member >= 0);
    return one_clock ? steps : phases;
  }

  /// Where `item` goes: the lowest gap that holds it, or the one it leaves least of, or the top.
  [[nodiscard]] std::size_t find(const Item& item, Fit fit) const {
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

  void put(std::size_t index, std::size_t offset) {
    const Item& item = items_[index];
    offsets_[index] = offset;
    top_ = std::max(top_, offset + item.size);
    const auto above = std::ranges::upper_bound(slots_, offset, {}, &Slot::begin);
    slots_.insert(above, {offset, offset + item.size, item.first, item.end, item.first_phase,
                          item.end_phase, item.member});
  }

  std::span<const Item> items_;
  std::vector<Slot> slots_;  // by offset
  std::vector<std::size_t> offsets_;
  std::size_t top_ = 0;
};

/// The search for one plan: keeps the best offsets and stops at the bound.
class Search {
 public:
  Search(std::span<const Item> items, std::size_t bound, int rounds)
      : items_(items), bound_(bound), rounds_(rounds), orders_(items), packer_(items) {}

  void run() {
    greedy();
    improve();
  }

  [[nodiscard]] std::size_t top() const { return top_; }
  [[nodiscard]] const std::vector<std::size_t>& offsets() const { return offsets_; }

 private:
  // Beyond these numbers a further order or fit costs more time than it has been seen to be worth.
  static constexpr std::size_t kBothFits = 4096;
  static constexpr std::size_t kAllOrders = 8192;
  static constexpr std::size_t kFewOrders = 4;

  [[nodiscard]] bool done() const { return top_ <= bound_; }

  /// Every order, lowest fit first.
  void greedy() {
    const std::size_t count = items_.size() <= kAllOrders ? Orders::count() : kFewOrders;
    for (std::size_t i = 0; i < count && !done(); ++i) {
      starts_.push_back(orders_.make(i));
      attempt(starts_.back(), Fit::lowest, top_ - 1);
    }
    if (items_.size() > kBothFits) return;
    for (const Order& order : starts_) {
      if (done()) return;
      attempt(order, Fit::best, top_ - 1);
    }
  }

  /// Aims at the bound; where that is not reached, halves the distance to it again and again.
  void improve() {
    if (!done()) aim(bound_, rounds_);
    for (std::size_t low = bound_ + 1, halvings = 0; low < top_ && halvings < 6; ++halvings) {
      const std::size_t capacity = low + (top_ - 1 - low) / 2;
      if (!aim(capacity, rounds_ / 4)) low = capacity + 1;
    }
  }

  /// Tries to get below `capacity` in `rounds` runs, from each start in turn: whoever does not fit
  /// is moved to the front or to a random earlier place, and all are placed anew. A run ends at the
  /// first item that does not fit, so most cost far less than a whole one.
  bool aim(std::size_t capacity, int rounds) {
    const int each = rounds / static_cast<int>(starts_.size());
    for (Order order : starts_) {
      for (int round = 0; round < each; ++round) {
        const std::size_t failed = attempt(order, Fit::lowest, capacity);
        if (failed == order.size()) return true;
        if (failed == 0) return false;
        const std::uint64_t draw = random();
        const std::size_t to = draw % 2 == 0 ? 0 : draw / 2 % failed;
        const auto begin = order.begin();
        std::rotate(begin + static_cast<std::ptrdiff_t>(to),
                    begin + static_cast<std::ptrdiff_t>(failed),
                    begin + static_cast<std::ptrdiff_t>(failed) + 1);
      }
    }
    return false;
  }

  std::size_t attempt(const Order& order, Fit fit, std::size_t capacity) {
    const std::size_t placed = packer_.run(order, fit, capacity);
    if (placed == order.size()) {
      top_ = packer_.top();
      offsets_ = packer_.offsets();
    }
    return placed;
  }

  /// A linear congruential generator's upper bits: the same draws on every machine.
  std::uint64_t random() {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return state_ >> 33U;
  }

  std::span<const Item> items_;
  std::size_t bound_;
  int rounds_;
  Orders orders_;
  Packer packer_;
  std::vector<Order> starts_;
  std::size_t top_ = kUnbounded;  // of the best so far
  std::vector<std::size_t> offsets_;
  std::uint64_t state_ = 1;
};

/// As many rounds as keep their cost, quadratic in the number of items, about the same.
int default_rounds(std::size_t items) {
  constexpr std::size_t kWork = std::size_t{1} << 27U;
  return static_cast<int>(std::min<std::size_t>(8192, kWork / (items * items)));
}

}  // namespace

Plan plan(std::span<const Request> requests, const PlanOptions& options) {
  const std::vector<Item> wanted = items(requests, options.alignment);
  Bound bound = lower_bound(requests, options.alignment);
  Plan result{.offsets = std::vector<std::size_t>(requests.size()),
              .arena_bytes = 0,
              .lower_bound_bytes = bound.bytes,
              .witness = std::move(bound.witness)};
  if (wanted.empty()) return result;

  const int rounds = options.rounds >= 0 ? options.rounds : default_rounds(wanted.size());
  Search search(wanted, bound.bytes / options.alignment, rounds);
  search.run();
  result.arena_bytes = search.top() * options.alignment;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    result.offsets[wanted[i].request] = search.offsets()[i] * options.alignment;
  }
  return result;
}

}  // namespace poolgrad::memory

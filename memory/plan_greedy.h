// Plan greedy: items placed one by one in good orders, and rounds that improve on it. Internal to
// memory/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "memory/plan_items.h"
#include "memory/plan_limits.h"
#include "memory/plan_orders.h"

namespace poolgrad::memory {

/// Places items one by one, each where those placed before it leave room. Items with a place of
/// their own lie there from the start.
class Packer {
 public:
  enum class Fit { lowest, best };

  explicit Packer(std::span<const Item> items) : items_(items), offsets_(items.size()) {}

  /// Places items in `order` below `capacity`. Answers how many fitted: all, or the place in the
  /// order of the first that did not.
  std::size_t run(const Order& order, Fit fit, std::size_t capacity);

  [[nodiscard]] std::size_t top() const { return top_; }
  [[nodiscard]] const std::vector<std::size_t>& offsets() const { return offsets_; }

 private:
  /// A placed item, with all that a scan needs in one place.
  struct Slot {
    std::size_t begin = 0;
    std::size_t end = 0;
    int first = 0, last = 0, first_phase = 0, end_phase = 0, member = 0;
  };

  [[nodiscard]] static bool conflict(const Item& item, const Slot& slot);
  [[nodiscard]] std::size_t find(const Item& item, Fit fit) const;
  void put(std::size_t index, std::size_t offset);

  std::span<const Item> items_;
  std::vector<Slot> slots_;  // by offset
  std::vector<std::size_t> offsets_;
  std::size_t top_ = 0;
};

/// The greedy search for one plan: keeps the best offsets and stops at `goal`. Sizes in units.
class Greedy {
 public:
  Greedy(std::span<const Item> items, std::size_t goal, PlanLimits& limits)
      : items_(items), goal_(goal), limits_(limits), orders_(items), packer_(items) {}

  /// Every order, lowest fit first, then best fit. O(n²) per order.
  void place();

  /// Aims at the goal, with `rounds` runs; where that is not reached, halves the distance to it.
  void improve(int rounds);

  /// As many rounds as keep their cost, quadratic in the number of items, about the same.
  [[nodiscard]] static int default_rounds(std::size_t items);

  [[nodiscard]] bool done() const { return top_ <= goal_; }
  [[nodiscard]] std::size_t top() const { return top_; }
  [[nodiscard]] const std::vector<std::size_t>& offsets() const { return offsets_; }

 private:
  bool aim(std::size_t capacity, int rounds);
  std::size_t attempt(const Order& order, Packer::Fit fit, std::size_t capacity);

  std::span<const Item> items_;
  std::size_t goal_;
  PlanLimits& limits_;
  Orders orders_;
  Packer packer_;
  std::vector<Order> starts_;
  std::size_t top_ = std::numeric_limits<std::size_t>::max();  // of the best so far
  std::vector<std::size_t> offsets_;
  std::uint64_t state_ = 1;  // of draw()
};

}  // namespace poolgrad::memory

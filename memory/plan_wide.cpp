// Finds the neighbours of an item in lists by length, each sorted by the time of beginning.
#include "memory/plan_wide.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>

namespace poolgrad::memory {
namespace {

constexpr std::size_t kNowhere = std::numeric_limits<std::size_t>::max();
constexpr std::size_t kMostUnits = std::numeric_limits<std::uint32_t>::max();
constexpr std::size_t kMostLooks = std::size_t{1} << 31U;  // some ten seconds
constexpr std::size_t kLooksPerSort = 8;

struct Slot {
  int first = 0, end = 0;
  std::size_t offset = kNowhere;
  std::size_t size = 0;
};

/// Slots of lengths from 2^k to below twice that.
struct Class {
  std::int64_t longest = 0;
  std::vector<Slot> slots;  // by first
};

/// The bytes alive at each step at which something begins, and the most in each block of steps.
class Profile {
 public:
  explicit Profile(std::span<const Item> items) {
    for (const Item& item : items) steps_.push_back(item.first);
    std::ranges::sort(steps_);
    steps_.erase(std::unique(steps_.begin(), steps_.end()), steps_.end());
    live_.resize(steps_.size() + 1);
    for (const Item& item : items) {
      live_[place(item.first)] += item.size;
      live_[place(item.end)] -= item.size;  // wraps and back
    }
    std::partial_sum(live_.begin(), live_.end(), live_.begin());
    for (std::size_t i = 0; i < live_.size(); i += kBlock) {
      const auto begin = live_.begin() + static_cast<std::ptrdiff_t>(i);
      blocks_.push_back(*std::max_element(
          begin, begin + static_cast<std::ptrdiff_t>(std::min(kBlock, live_.size() - i))));
    }
  }

  /// Over [first, end), where an item begins at `first`.
  [[nodiscard]] std::size_t most(int first, int end) const {
    std::size_t result = 0;
    const std::size_t last = place(end);
    for (std::size_t i = place(first); i < last;) {
      const bool whole = i % kBlock == 0 && i + kBlock <= last;
      result = std::max(result, whole ? blocks_[i / kBlock] : live_[i]);
      i += whole ? kBlock : 1;
    }
    return result;
  }

 private:
  static constexpr std::size_t kBlock = 256;

  [[nodiscard]] std::size_t place(int step) const {
    return static_cast<std::size_t>(std::ranges::lower_bound(steps_, step) - steps_.begin());
  }

  std::vector<int> steps_;
  std::vector<std::size_t> live_;
  std::vector<std::size_t> blocks_;
};

class Neighbours {
 public:
  explicit Neighbours(std::span<const Item> items) : place_(items.size()) {
    std::vector<std::size_t> order(items.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, {}, [&](std::size_t i) { return items[i].first; });
    for (const std::size_t i : order) {
      const Item& item = items[i];
      const std::int64_t length = std::int64_t{item.end} - item.first;
      const auto k = static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(length)));
      if (classes_.size() <= k) classes_.resize(k + 1);
      place_[i] = {k, classes_[k].slots.size()};
      classes_[k].longest = std::max(classes_[k].longest, length);
      classes_[k].slots.push_back({item.first, item.end, kNowhere, item.size});
    }
  }

  /// Calls `use` with every slot that is alive together with `item`, itself included. Answers how
  /// many were looked at.
  template <typename Use>
  std::size_t each(const Item& item, Use&& use) const {
    std::size_t looks = 0;
    for (const Class& c : classes_) {
      const std::int64_t from = item.first - c.longest;  // begun by then, all have ended
      auto slot = std::ranges::upper_bound(c.slots, from, {},
                                           [](const Slot& s) { return std::int64_t{s.first}; });
      for (; slot != c.slots.end() && slot->first < item.end; ++slot, ++looks) {
        if (slot->end > item.first) use(*slot);
      }
    }
    return looks;
  }

  void put(std::size_t item, std::size_t offset) {
    classes_[place_[item].first].slots[place_[item].second].offset = offset;
  }

 private:
  std::vector<Class> classes_;
  std::vector<std::pair<std::size_t, std::size_t>> place_;  // of an item: class and slot
};

}  // namespace

std::optional<Wide> place_wide(std::span<const Item> items, PlanLimits& limits) {
  Neighbours neighbours(items);
  const Profile profile(items);
  std::vector<std::size_t> breadth;
  for (const Item& item : items) breadth.push_back(profile.most(item.first, item.end));
  std::vector<std::size_t> order(items.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    const auto key = [&](std::size_t i) {
      return std::tuple(breadth[i], std::int64_t{items[i].end} - items[i].first, items[i].size);
    };
    return key(a) > key(b);
  });
  Wide result{std::vector<std::size_t>(items.size()), 0};
  std::vector<std::uint64_t> taken;  // begin and end in one, to be sorted fast
  std::size_t looks = 0, placed = 0;
  for (const std::size_t i : order) {
    taken.clear();
    looks += neighbours.each(items[i], [&](const Slot& slot) {
      if (slot.offset != kNowhere) taken.push_back(slot.offset << 32U | (slot.offset + slot.size));
    });
    looks += kLooksPerSort * taken.size();
    if (looks > kMostLooks) return {};
    if (++placed % 1024 == 0) limits.look();
    if (limits.late()) return {};
    std::ranges::sort(taken);
    std::size_t free = 0;
    for (const std::uint64_t range : taken) {
      const std::size_t begin = range >> 32U, end = range & kMostUnits;
      if (begin >= free && begin - free >= items[i].size) break;
      free = std::max(free, end);
    }
    if (items[i].size > kMostUnits || free > kMostUnits - items[i].size) return {};
    neighbours.put(i, free);
    result.offsets[i] = free;
    result.top = std::max(result.top, free + items[i].size);
  }
  return result;
}

}  // namespace poolgrad::memory

// Measures items and sorts them by several measures. Placing is not here.
#include "memory/plan_orders.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace poolgrad::memory {
namespace {

/// Half-open ranges with sizes, asked for sums and maxima over a range.
class Timeline {
 public:
  void add(int first, int end, std::size_t size) {
    begins_.push_back({first, static_cast<double>(size)});
    ends_.push_back({end, static_cast<double>(size)});
  }

  void finish() {
    for (std::vector<Change>* changes : {&begins_, &ends_}) {
      std::ranges::stable_sort(*changes, {}, &Change::time);
      double sum = 0;
      for (Change& change : *changes) change.size = sum += change.size;
    }
  }

  /// Of all ranges that meet [first, end).
  [[nodiscard]] double crossing(int first, int end) const {
    return before(begins_, end) - before(ends_, first + 1);
  }

 private:
  struct Change {
    int time = 0;
    double size = 0;  // finished: of this and all before
  };

  /// Of all changes before `time`.
  static double before(const std::vector<Change>& changes, int time) {
    const auto next = std::ranges::lower_bound(changes, time, {}, &Change::time);
    return next == changes.begin() ? 0 : std::prev(next)->size;
  }

  std::vector<Change> begins_;
  std::vector<Change> ends_;
};

/// The most that is alive at one step, over ranges of steps. All items count by their steps.
class Profile {
 public:
  explicit Profile(std::span<const Item> items) {
    for (const Item& item : items) steps_.push_back(item.first);
    std::ranges::sort(steps_);
    steps_.erase(std::unique(steps_.begin(), steps_.end()), steps_.end());
    std::vector<double> live(steps_.size() + 1);
    for (const Item& item : items) {
      live[place(item.first)] += static_cast<double>(item.size);
      live[std::max(place(item.end), place(item.first) + 1)] -= static_cast<double>(item.size);
    }
    std::partial_sum(live.begin(), live.end(), live.begin());
    most_.push_back(std::move(live));
    for (std::size_t width = 1; 2 * width <= steps_.size(); width *= 2) {
      const std::vector<double>& half = most_.back();
      std::vector<double> whole(half.size() - width);
      for (std::size_t i = 0; i < whole.size(); ++i) whole[i] = std::max(half[i], half[i + width]);
      most_.push_back(std::move(whole));
    }
  }

  [[nodiscard]] double most(int first, int end) const {
    const std::size_t low = place(first);
    const std::size_t high = std::max(place(end), low + 1);
    std::size_t level = 0;
    while ((std::size_t{2} << level) <= high - low) ++level;
    return std::max(most_[level][low], most_[level][high - (std::size_t{1} << level)]);
  }

 private:
  [[nodiscard]] std::size_t place(int step) const {
    return static_cast<std::size_t>(std::ranges::lower_bound(steps_, step) - steps_.begin());
  }

  std::vector<int> steps_;
  std::vector<std::vector<double>> most_;  // [level][i]: over the 2^level steps from i on
};

/// For each item the bytes of all that may be alive together with it, itself included.
std::vector<double> crowds(std::span<const Item> items) {
  Timeline phases;
  std::map<int, Timeline> phases_of, steps_of;
  for (const Item& item : items) {
    phases.add(item.first_phase, item.end_phase, item.size);
    if (item.member < 0) continue;
    phases_of[item.member].add(item.first_phase, item.end_phase, item.size);
    steps_of[item.member].add(item.first, item.end, item.size);
  }
  phases.finish();
  for (auto* timelines : {&phases_of, &steps_of}) {
    for (auto& [member, timeline] : *timelines) timeline.finish();
  }
  std::vector<double> result;
  for (const Item& item : items) {
    double crowd = phases.crossing(item.first_phase, item.end_phase);
    if (item.member >= 0) {  // those of its own member go by steps instead
      crowd -= phases_of.at(item.member).crossing(item.first_phase, item.end_phase);
      crowd += steps_of.at(item.member).crossing(item.first, item.end);
    }
    result.push_back(crowd);
  }
  return result;
}

}  // namespace

Orders::Orders(std::span<const Item> items) {
  const Profile profile(items);
  const std::vector<double> crowd = crowds(items);
  for (std::size_t i = 0; i < items.size(); ++i) {
    const Item& item = items[i];
    const auto size = static_cast<double>(item.size);
    const double width = std::max(1.0, static_cast<double>(item.end) - item.first);
    measures_.push_back({size, width, size * width, profile.most(item.first, item.end), crowd[i],
                         item.member < 0 ? 1.0 : 0.0});
  }
}

std::size_t Orders::count() { return kOrders.size(); }

Order Orders::make(std::size_t which) const {
  Order order(measures_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    for (const Key key : kOrders[which]) {
      if (measures_[a].*key != measures_[b].*key) return measures_[a].*key > measures_[b].*key;
    }
    return false;
  });
  return order;
}

}  // namespace poolgrad::memory

// The planner: what is tried in which order, and what is proved by it. How is in the files plan_*.
#include "memory/plan.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "memory/plan_greedy.h"
#include "memory/plan_items.h"
#include "memory/plan_limits.h"
#include "memory/plan_pack.h"
#include "memory/plan_relation.h"
#include "memory/plan_sweep.h"
#include "memory/plan_wide.h"

namespace poolgrad::memory {
namespace {

// More than these take too long for orders that cost O(n²), and for the search.
constexpr std::size_t kMostGreedy = 32768;
constexpr std::size_t kMostUnswept = 4096;
constexpr std::size_t kMostSearched = 4096;
constexpr std::size_t kMostRelated = 1024;

bool are_intervals(std::span<const Item> items) {
  return std::ranges::all_of(items, [&](const Item& item) {
    return item.member >= 0 && item.member == items[0].member && item.alignment == 1 &&
           item.at == kAnywhere;
  });
}

/// Makes one plan. Sizes in units of the plan's alignment.
class Planner {
 public:
  Planner(std::span<const Item> items, std::size_t bound, std::size_t goal,
          const PlanOptions& options)
      : items_(items),
        proved_(bound),
        goal_(std::max(bound, std::min(goal, kNothing - 1))),
        limits_(options.nodes, options.seconds),
        rounds_(options.rounds),
        intervals_(are_intervals(items)) {}

  void run() {
    const bool fixed =
        std::ranges::any_of(items_, [](const Item& item) { return item.at != kAnywhere; });
    if (items_.size() > kMostUnswept && !fixed) {
      if (items_.size() > kMostGreedy && intervals_) {
        if (auto wide = place_wide(items_, limits_))
          return keep(std::move(wide->offsets), wide->top);
      }
      Sweep swept = sweep(items_, goal_);
      keep(std::move(swept.offsets), swept.top);
      if (items_.size() > kMostGreedy) return;
    }
    Greedy greedy(items_, goal_, limits_);
    greedy.place();
    keep(greedy.offsets(), greedy.top());
    if (done()) return;
    if (intervals_) search(goal_, std::clamp(limits_.left() / 2, kQuick, kSooner));
    if (done() || proved_ > goal_) return narrow();
    greedy.improve(rounds_ >= 0 ? rounds_ : Greedy::default_rounds(items_.size()));
    keep(greedy.offsets(), greedy.top());
    if (!done()) search(goal_, std::max(kQuick, limits_.left() / 2));
    narrow();
  }

  [[nodiscard]] std::size_t top() const { return top_; }
  [[nodiscard]] std::size_t proved() const { return proved_; }
  [[nodiscard]] const std::vector<std::size_t>& offsets() const { return offsets_; }
  [[nodiscard]] const PlanLimits& limits() const { return limits_; }

 private:
  static constexpr std::size_t kNothing = std::numeric_limits<std::size_t>::max();
  static constexpr std::int64_t kQuick = 2000;
  static constexpr std::int64_t kSooner = 30'000;  // of any number, before rounds of improvement

  [[nodiscard]] bool done() const { return top_ <= goal_; }

  void keep(std::vector<std::size_t> offsets, std::size_t top) {
    if (top >= top_) return;
    offsets_ = std::move(offsets);
    top_ = top;
  }

  /// Halves what lies between what is proved and the plan, as long as trials are left.
  void narrow() {
    std::size_t low = std::max(goal_ + 1, proved_);
    while (!done() && low < top_ && !limits_.spent()) {
      const std::size_t middle = low + (top_ - 1 - low) / 2;
      search(middle, std::max(kQuick, limits_.left() / 4));
      if (top_ > middle) low = std::max(middle + 1, proved_);
    }
  }

  /// Looks for a plan of `capacity` by exact search.
  void search(std::size_t capacity, std::int64_t nodes) {
    if (items_.size() > (intervals_ ? kMostSearched : kMostRelated) || limits_.spent()) return;
    if (capacity > static_cast<std::size_t>(std::numeric_limits<std::int64_t>::max() / 2)) return;
    const Found found = intervals_ ? pack_intervals(capacity, nodes) : relate(capacity, nodes);
    if (found == Found::nothing) proved_ = std::max(proved_, capacity + 1);
  }

  Found pack_intervals(std::size_t capacity, std::int64_t nodes) {
    std::vector<Piece> pieces;
    for (const Item& item : items_)
      pieces.push_back({item.first, item.end, static_cast<std::int64_t>(item.size)});
    const Packing packing = pack(pieces, static_cast<std::int64_t>(capacity), nodes, limits_);
    if (packing.found == Found::plan) take({packing.offsets.begin(), packing.offsets.end()});
    return packing.found;
  }

  Found relate(std::size_t capacity, std::int64_t nodes) {
    RelationSearch relation(items_, capacity);
    for (std::int64_t turn = 500; nodes > 0 && !limits_.spent(); turn += turn / 2) {
      const std::int64_t before = limits_.nodes();
      const Found found = relation.run(std::min(turn, nodes), limits_);
      nodes -= std::max<std::int64_t>(1, limits_.nodes() - before);
      if (found == Found::plan) take(relation.offsets());
      if (found != Found::limit) return found;
    }
    return Found::limit;
  }

  void take(std::vector<std::size_t> offsets) {
    std::size_t top = 0;
    for (std::size_t i = 0; i < items_.size(); ++i)
      top = std::max(top, offsets[i] + items_[i].size);
    keep(std::move(offsets), top);
  }

  std::span<const Item> items_;
  std::size_t proved_;  // no plan is smaller
  std::size_t goal_;
  PlanLimits limits_;
  int rounds_;
  bool intervals_;
  std::vector<std::size_t> offsets_;
  std::size_t top_ = kNothing;
};

/// The end of the highest fixed item. Throws where two of them share bytes at one moment.
std::size_t fixed_top(std::span<const Item> items) {
  std::vector<const Item*> fixed;
  for (const Item& item : items) {
    if (item.at != kAnywhere) fixed.push_back(&item);
  }
  std::ranges::stable_sort(fixed, {}, [](const Item* item) { return item->at; });
  std::size_t top = 0;
  for (std::size_t i = 0; i < fixed.size(); ++i) {
    const Item& low = *fixed[i];
    top = std::max(top, low.at + low.size);
    for (std::size_t k = i + 1; k < fixed.size() && fixed[k]->at < low.at + low.size; ++k) {
      if (!conflict(low, *fixed[k])) continue;
      throw std::invalid_argument(
          "plan: requests " + std::to_string(std::min(low.request, fixed[k]->request)) + " and " +
          std::to_string(std::max(low.request, fixed[k]->request)) +
          " are fixed on common bytes but may be alive at one moment; move one");
    }
  }
  return top;
}

Stop stop_of(const Plan& plan, std::size_t capacity, bool late) {
  const bool asked = capacity > 0;
  if (asked ? plan.arena_bytes <= capacity : plan.optimal()) return Stop::done;
  if (asked && plan.proved_bytes > capacity) return Stop::proved;
  return late ? Stop::time : Stop::nodes;
}

}  // namespace

std::string_view to_string(Stop stop) {
  switch (stop) {
    case Stop::done:
      return "done";
    case Stop::proved:
      return "proved";
    case Stop::nodes:
      return "nodes";
    case Stop::time:
      return "time";
  }
  return "";
}

Plan plan(std::span<const Request> requests, const PlanOptions& options) {
  const std::vector<Item> wanted = items(requests, options.alignment);
  const std::size_t least = fixed_top(wanted);
  Bound bound = lower_bound(requests, options.alignment);
  Plan result;
  result.offsets.resize(requests.size());
  result.lower_bound_bytes = result.proved_bytes = bound.bytes;
  result.witness = std::move(bound.witness);
  if (wanted.empty()) return result;

  Planner planner(wanted, std::max(bound.bytes / options.alignment, least),
                  options.capacity / options.alignment, options);
  planner.run();
  result.arena_bytes = planner.top() * options.alignment;
  result.proved_bytes = planner.proved() * options.alignment;
  result.nodes = planner.limits().nodes();
  result.stop = stop_of(result, options.capacity, planner.limits().late());
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    result.offsets[wanted[i].request] = planner.offsets()[i] * options.alignment;
  }
  return result;
}

}  // namespace poolgrad::memory

// How small a plan could be at best, and at which moment that shows. Placing is not here.
#include <algorithm>
#include <map>
#include <numeric>

#include "memory/plan_items.h"

namespace poolgrad::memory {
namespace {

/// One member's clock: how much of it is alive at each step, for the requests now in, and the most.
/// A segment tree over the steps at which something begins.
class Clock {
 public:
  void add_step(int step) { steps_.push_back(step); }

  void finish_steps() {
    std::ranges::sort(steps_);
    steps_.erase(std::unique(steps_.begin(), steps_.end()), steps_.end());
    while (leaves_ < steps_.size()) leaves_ *= 2;
    added_.assign(2 * leaves_, 0);
    most_.assign(2 * leaves_, 0);
  }

  /// Adds `size` (it may wrap: subtracting) to the steps in [first, end).
  void add(int first, int end, std::size_t size) {
    std::size_t low = place(first) + leaves_;
    std::size_t high = place(end) + leaves_;
    const std::size_t left = low;
    const std::size_t right = high - 1;
    for (; low < high; low /= 2, high /= 2) {
      if (low % 2 == 1) add_at(low++, size);
      if (high % 2 == 1) add_at(--high, size);
    }
    for (std::size_t node = left / 2; node > 0; node /= 2) update(node);
    for (std::size_t node = right / 2; node > 0; node /= 2) update(node);
  }

  [[nodiscard]] std::size_t most() const { return most_[1]; }

  /// The first step at which so much is alive.
  [[nodiscard]] int when() const {
    std::size_t node = 1;
    while (node < leaves_) node = most_[2 * node] >= most_[2 * node + 1] ? 2 * node : 2 * node + 1;
    return steps_[node - leaves_];
  }

 private:
  [[nodiscard]] std::size_t place(int step) const {
    return static_cast<std::size_t>(std::ranges::lower_bound(steps_, step) - steps_.begin());
  }
  void add_at(std::size_t node, std::size_t size) {
    added_[node] += size;
    most_[node] += size;
  }
  void update(std::size_t node) {
    most_[node] = added_[node] + std::max(most_[2 * node], most_[2 * node + 1]);
  }

  std::vector<int> steps_;
  std::size_t leaves_ = 1;
  std::vector<std::size_t> added_;  // to the whole range of a node
  std::vector<std::size_t> most_;   // within the range of a node
};

/// All clocks and the shared bytes, at one phase.
class Moment {
 public:
  explicit Moment(const std::vector<Item>& items) {
    for (const Item& item : items) {
      if (item.member >= 0) clocks_[item.member].add_step(item.first);
    }
    for (auto& [member, clock] : clocks_) clock.finish_steps();
  }

  /// Counts `item` in, or out again.
  void add(const Item& item, bool in) {
    const std::size_t size = in ? item.size : std::size_t{0} - item.size;
    if (item.member < 0) {
      total_ += size;
      return;
    }
    Clock& clock = clocks_.at(item.member);
    total_ -= clock.most();
    clock.add(item.first, item.end, size);
    total_ += clock.most();
  }

  [[nodiscard]] std::size_t total() const { return total_; }

  [[nodiscard]] Witness witness(int phase) const {
    Witness result{.phase = phase, .steps = {}};
    for (const auto& [member, clock] : clocks_) {
      if (clock.most() > 0) result.steps.push_back({member, clock.when()});
    }
    return result;
  }

 private:
  std::map<int, Clock> clocks_;
  std::size_t total_ = 0;
};

}  // namespace

Bound lower_bound(std::span<const Request> requests, std::size_t alignment) {
  const std::vector<Item> all = items(requests, alignment);
  std::vector<std::size_t> begins(all.size());
  std::iota(begins.begin(), begins.end(), std::size_t{0});
  std::vector<std::size_t> ends = begins;
  std::ranges::stable_sort(begins, {}, [&](std::size_t i) { return all[i].first_phase; });
  std::ranges::stable_sort(ends, {}, [&](std::size_t i) { return all[i].end_phase; });

  Moment moment(all);
  Bound best;
  auto ended = ends.begin();
  for (auto begun = begins.begin(); begun != begins.end();) {
    const int phase = all[*begun].first_phase;
    while (all[*ended].end_phase <= phase) moment.add(all[*ended++], false);
    while (begun != begins.end() && all[*begun].first_phase == phase)
      moment.add(all[*begun++], true);
    if (moment.total() > best.bytes) best = {moment.total(), moment.witness(phase)};
  }
  best.bytes *= alignment;
  return best;
}

std::vector<std::size_t> alive_at(std::span<const Request> requests, const Witness& witness) {
  std::map<int, int> step_of;
  for (const auto& [member, step] : witness.steps) step_of[member] = step;
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const Request& r = requests[i];
    if (!alive(r) || witness.phase < r.first_phase || r.end_phase <= witness.phase) continue;
    if (r.member >= 0) {
      const auto step = step_of.find(r.member);
      if (step == step_of.end() || step->second < r.first || r.end <= step->second) continue;
    }
    result.push_back(i);
  }
  return result;
}

std::size_t sum_bytes(std::span<const Request> requests, std::size_t alignment) {
  std::size_t units = 0;
  for (const Item& item : items(requests, alignment)) units += item.size;
  return units * alignment;
}

}  // namespace poolgrad::memory

// The exact search on the relation of conflict. Orders of trials, going back, and the sections that
// prune.
#include "memory/plan_relation.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

namespace poolgrad::memory {
namespace {

constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();

}  // namespace

RelationSearch::RelationSearch(std::span<const Item> items, std::size_t capacity)
    : items_(items), capacity_(capacity) {
  make_neighbours();
  make_sections();
}

void RelationSearch::make_neighbours() {
  neighbours_.resize(items_.size());
  fixed_.resize(items_.size());
  for (Index i = 0; i < items_.size(); ++i) {
    for (Index k = 0; k < items_.size(); ++k) {
      if (i == k || !conflict(items_[i], items_[k])) continue;
      (items_[k].at == kAnywhere ? neighbours_ : fixed_)[i].push_back(k);
    }
    std::ranges::sort(fixed_[i], {}, [&](Index k) { return items_[k].at; });
  }
}

/// A section per phase and member and step at which something begins: its items are all in
/// conflict.
void RelationSearch::make_sections() {
  std::vector<int> phases;
  for (const Item& item : items_) phases.push_back(item.first_phase);
  std::ranges::sort(phases);
  phases.erase(std::unique(phases.begin(), phases.end()), phases.end());
  sections_of_.resize(items_.size());
  phases_of_.resize(items_.size());
  for (const int phase : phases) {
    std::vector<Index> all;
    std::map<int, std::vector<Index>> by_member;
    for (Index i = 0; i < items_.size(); ++i) {
      if (items_[i].at != kAnywhere || items_[i].first_phase > phase ||
          items_[i].end_phase <= phase)
        continue;
      all.push_back(i);
      phases_of_[i].push_back(in_phase_.size());
      by_member[items_[i].member].push_back(i);
    }
    std::vector<std::pair<std::size_t, std::size_t>> members;
    for (const auto& [member, own] : by_member) {
      const std::size_t begin = weight_.size();
      std::vector<int> steps;
      for (const Index i : own) steps.push_back(member < 0 ? 0 : items_[i].first);
      std::ranges::sort(steps);
      steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
      for (const int step : steps) {
        for (const Index i : own) {
          if (member < 0 || (items_[i].first <= step && step < items_[i].end))
            sections_of_[i].push_back(weight_.size());
        }
        weight_.push_back(0);
      }
      members.emplace_back(begin, weight_.size());
    }
    in_phase_.push_back(std::move(all));
    members_of_phase_.push_back(std::move(members));
  }
}

void RelationSearch::reset() {
  std::ranges::fill(weight_, 0);
  bound_.assign(items_.size(), 0);
  placed_.assign(items_.size(), 0);
  tie_.clear();
  frames_.clear();
  changes_.clear();
  for (Index i = 0; i < items_.size(); ++i) {
    const Item& item = items_[i];
    const std::int64_t steps = std::int64_t{item.end} - item.first;
    const auto width = static_cast<std::size_t>(std::max<std::int64_t>(1, steps));
    std::size_t crowd = 0;
    for (const Index k : neighbours_[i]) crowd += items_[k].size;
    const std::size_t ties[] = {item.size, crowd, width};
    tie_.push_back(ties[runs_ % 3]);
    if (item.at != kAnywhere) {
      bound_[i] = item.at;
      placed_[i] = 1;
    } else {
      bound_[i] = over_fixed(i, 0);
      weigh(i, true);
    }
  }
}

Found RelationSearch::run(std::int64_t nodes, PlanLimits& limits) {
  reset();
  ++runs_;
  for (Index i = 0; i < items_.size(); ++i) {
    if (bound_[i] > capacity_ || items_[i].size > capacity_ - bound_[i]) return Found::nothing;
  }
  for (std::size_t phase = 0; phase < in_phase_.size(); ++phase) {
    if (!fits_phase(phase)) return Found::nothing;
  }
  for (bool good = true;;) {
    Index item = 0;
    if (good && !choose(item)) return Found::plan;
    if (good) {
      frames_.push_back({item, false, changes_.size()});
    } else {
      while (!frames_.empty() && frames_.back().higher) {
        undo(frames_.back().changes);
        frames_.pop_back();
      }
      if (frames_.empty()) return Found::nothing;
      undo(frames_.back().changes);
      frames_.back().higher = true;
    }
    if (nodes-- <= 0 || !limits.take()) return Found::limit;
    good = frames_.back().higher ? lift(frames_.back().item) : place(frames_.back().item);
  }
}

/// The lowest bound of all; false when all are placed.
bool RelationSearch::choose(Index& item) const {
  bool any = false;
  for (Index i = 0; i < items_.size(); ++i) {
    if (placed_[i] != 0) continue;
    if (any && (bound_[i] > bound_[item] || (bound_[i] == bound_[item] && tie_[i] <= tie_[item])))
      continue;
    item = i;
    any = true;
  }
  return any;
}

bool RelationSearch::place(Index item) {
  placed_[item] = 1;
  weigh(item, false);
  changes_.push_back({item, true, 0});
  const std::size_t top = bound_[item] + items_[item].size;
  for (const Index other : neighbours_[item]) {
    if (placed_[other] == 0 && !raise(other, top)) return false;
  }
  return std::ranges::all_of(phases_of_[item], [&](std::size_t p) { return fits_phase(p); });
}

/// To the lowest top that is higher than where the item could lie.
bool RelationSearch::lift(Index item) {
  std::size_t to = kUnbounded;
  for (const Index other : neighbours_[item]) {
    if (placed_[other] == 0) to = std::min(to, bound_[other] + items_[other].size);
  }
  for (const Index other : fixed_[item]) {
    const std::size_t top = items_[other].at + items_[other].size;
    if (top > bound_[item]) to = std::min(to, top);
  }
  return to != kUnbounded && raise(item, std::max(to, bound_[item] + 1)) &&
         std::ranges::all_of(phases_of_[item], [&](std::size_t p) { return fits_phase(p); });
}

bool RelationSearch::raise(Index item, std::size_t to) {
  if (to <= bound_[item]) return true;
  const std::size_t offset = over_fixed(item, to);
  changes_.push_back({item, false, bound_[item]});
  bound_[item] = offset;
  return offset <= capacity_ && items_[item].size <= capacity_ - offset;
}

void RelationSearch::undo(std::size_t changes) {
  while (changes_.size() > changes) {
    const Change change = changes_.back();
    changes_.pop_back();
    if (change.placed) {
      placed_[change.item] = 0;
      weigh(change.item, true);
    } else {
      bound_[change.item] = change.before;
    }
  }
}

/// The lowest offset from `offset` on that is aligned and clear of what has a fixed place.
std::size_t RelationSearch::over_fixed(Index item, std::size_t offset) const {
  const Item& own = items_[item];
  offset = aligned(offset, own.alignment);
  for (const Index k : fixed_[item]) {
    const Item& other = items_[k];
    if (other.at + other.size <= offset) continue;
    if (other.at >= offset + own.size) break;
    offset = aligned(other.at + other.size, own.alignment);
  }
  return offset;
}

/// Whether the heaviest set of a phase still fits above the lowest bound in it.
bool RelationSearch::fits_phase(std::size_t phase) const {
  std::size_t lowest = kUnbounded;
  for (const Index i : in_phase_[phase]) {
    if (placed_[i] == 0) lowest = std::min(lowest, bound_[i]);
  }
  if (lowest == kUnbounded) return true;
  std::size_t bytes = 0;
  for (const auto& [begin, end] : members_of_phase_[phase]) {
    bytes += *std::max_element(weight_.begin() + static_cast<std::ptrdiff_t>(begin),
                               weight_.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return bytes <= capacity_ && lowest <= capacity_ - bytes;
}

void RelationSearch::weigh(Index item, bool in) {
  const std::size_t size = in ? items_[item].size : std::size_t{0} - items_[item].size;
  for (const std::size_t section : sections_of_[item]) weight_[section] += size;
}

}  // namespace poolgrad::memory

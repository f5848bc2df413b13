// Plan relation: whether items fit below a capacity where time is partly ordered, alignments differ
// or some have a fixed place, by exact search. Intervals have a faster one. Internal to memory/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "memory/plan_items.h"
#include "memory/plan_limits.h"
#include "memory/plan_search.h"

namespace poolgrad::memory {

/// Works on the relation "may be alive at one moment" alone. Each item has a bound below which it
/// cannot lie. The item with the lowest bound lies there, or it lies higher: then on another one,
/// so its bound goes to the lowest top that another can have. Some plan of the smallest size is
/// among those. Prunes where the items of a phase no longer fit above their lowest bound.
class RelationSearch {
 public:
  RelationSearch(std::span<const Item> items, std::size_t capacity);

  /// Searches anew with at most `nodes` trials, ties going by another measure each time. `nothing`
  /// is a proof.
  Found run(std::int64_t nodes, PlanLimits& limits);

  [[nodiscard]] const std::vector<std::size_t>& offsets() const { return bound_; }

 private:
  using Index = std::uint32_t;
  struct Frame {
    Index item = 0;
    bool higher = false;  // the second branch is being tried
    std::size_t changes = 0;
  };
  struct Change {
    Index item = 0;
    bool placed = false;
    std::size_t before = 0;
  };

  void make_neighbours();
  void make_sections();
  void reset();
  bool choose(Index& item) const;
  bool place(Index item);
  bool lift(Index item);
  bool raise(Index item, std::size_t to);
  void undo(std::size_t changes);
  [[nodiscard]] std::size_t over_fixed(Index item, std::size_t offset) const;
  [[nodiscard]] bool fits_phase(std::size_t phase) const;
  void weigh(Index item, bool in);

  std::span<const Item> items_;
  std::size_t capacity_;
  std::vector<std::vector<Index>> neighbours_;  // that may be alive at one moment, not fixed
  std::vector<std::vector<Index>> fixed_;       // likewise, by their place

  // Sections: for each phase those of several members, and each member's items that share a step.
  std::vector<std::vector<Index>> in_phase_;           // items that cover it
  std::vector<std::vector<std::size_t>> sections_of_;  // by item
  std::vector<std::vector<std::size_t>> phases_of_;    // by item
  std::vector<std::vector<std::pair<std::size_t, std::size_t>>> members_of_phase_;
  std::vector<std::size_t> weight_;  // by section: bytes not placed

  std::vector<std::size_t> bound_;  // of a placed item: its offset
  std::vector<char> placed_;
  std::vector<std::size_t> tie_;  // by item: the larger goes first
  std::vector<Frame> frames_;
  std::vector<Change> changes_;
  int runs_ = 0;
};

}  // namespace poolgrad::memory

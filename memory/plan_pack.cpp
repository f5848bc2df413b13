// Takes turns between searches. The search itself is in plan_search.cpp.
#include "memory/plan_pack.h"

#include <algorithm>
#include <numeric>
#include <tuple>

#include "memory/plan_join.h"

namespace poolgrad::memory {
namespace {

/// Pieces joined in one way, and the search for them.
class JoinedSearch {
 public:
  JoinedSearch(Joined joined, std::int64_t capacity, bool strict)
      : joined_(std::move(joined)), search_(joined_.pieces(), capacity, strict) {}

  Found run(std::int64_t nodes, PlanLimits& limits) { return search_.run(nodes, limits); }
  [[nodiscard]] std::vector<std::int64_t> offsets() const {
    return joined_.offsets(search_.offsets());
  }

 private:
  Joined joined_;
  IntervalSearch search_;
};

class Portfolio {
  using Daring = Joined::Daring;

 public:
  Portfolio(std::vector<Piece> pieces, std::int64_t capacity, std::int64_t nodes,
            PlanLimits& limits)
      : pieces_(std::move(pieces)),
        capacity_(capacity),
        nodes_(nodes),
        limits_(limits),
        groups_(pieces_, capacity),
        plain_(pieces_, capacity) {}

  Packing run() {
    if (try_search(plain_, 2 * static_cast<std::int64_t>(pieces_.size()))) return packing_;
    std::int64_t turn = 1000;
    if (pieces_.size() <= kMostJoined) groups_.join(Daring::groups, 0, 0);
    for (std::uint64_t round = 0; pieces_.size() <= kMostJoined; ++round) {
      for (const bool stack : {false, true}) {
        if (out()) return packing_;
        JoinedSearch joined(stack ? stacked(round) : matched(round), capacity_, !stack);
        limits_.take(static_cast<std::int64_t>(pieces_.size()));
        if (try_search(joined, turn)) return packing_;
      }
      packing_.found = Found::limit;
      if (try_search(plain_, turn)) return packing_;
      if (round % 2 == 1) turn += turn / 2;
    }
    while (!out()) {
      if (try_search(plain_, turn)) return packing_;
      turn += turn / 2;
    }
    return packing_;
  }

 private:
  static constexpr std::size_t kMostJoined = 1500;  // joining takes quadratic time

  /// What is certain, by turns with what is likely; from the third time on, not all of it.
  Joined matched(std::uint64_t round) const {
    constexpr unsigned kDoubts[] = {10, 20, 5, 40};
    const Daring daring = round % 2 == 0 ? Daring::groups : Daring::matches;
    Joined joined = round < 2 ? groups_ : Joined(pieces_, capacity_);
    joined.join(daring, round, round < 2 ? 0 : kDoubts[round % 4]);
    return joined;
  }

  Joined stacked(std::uint64_t round) const {
    Joined joined = groups_;
    joined.join(Daring::stacks, round, 0);
    return joined;
  }

  bool out() const { return nodes_ <= 0 || limits_.spent(); }

  /// True when all is said: a plan, or of the plain search that there is none, or no trials left.
  template <typename Search>
  bool try_search(Search& search, std::int64_t turn) {
    const std::int64_t before = limits_.nodes();
    packing_.found = search.run(std::min(turn, nodes_), limits_);
    nodes_ -= limits_.nodes() - before;
    if (packing_.found == Found::plan) {
      packing_.offsets = search.offsets();
      return true;
    }
    if (packing_.found == Found::nothing && std::is_same_v<Search, IntervalSearch>) return true;
    return out() && (packing_.found = Found::limit, true);
  }

  std::vector<Piece> pieces_;
  std::int64_t capacity_;
  std::int64_t nodes_;
  PlanLimits& limits_;
  Joined groups_;  // what is certain
  IntervalSearch plain_;
  Packing packing_;
};

}  // namespace

Packing pack(std::span<const Piece> pieces, std::int64_t capacity, std::int64_t nodes,
             PlanLimits& limits) {
  std::vector<std::size_t> order(pieces.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) {
    return std::tuple(pieces[i].first, pieces[i].end, pieces[i].size);
  });
  std::int64_t unit = 0;
  for (const Piece& piece : pieces) unit = std::gcd(unit, piece.size);
  std::vector<Piece> sorted;
  for (const std::size_t i : order)
    sorted.push_back({pieces[i].first, pieces[i].end, pieces[i].size / unit});
  Packing packing = Portfolio(std::move(sorted), capacity / unit, nodes, limits).run();
  if (packing.found != Found::plan) return packing;
  std::vector<std::int64_t> offsets(pieces.size());
  for (std::size_t k = 0; k < order.size(); ++k) offsets[order[k]] = packing.offsets[k] * unit;
  packing.offsets = std::move(offsets);
  return packing;
}

}  // namespace poolgrad::memory

// Hard inputs for the planner: a rectangle of time and bytes cut at random into pieces that fill
// it, so that a plan without a gap exists, and no greedy planner finds it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "memory/plan.h"

namespace poolgrad::memory::testing {

enum class Cuts {
  guillotine,  // each cut goes all through one piece
  wheels,      // half of them leave five pieces that turn around one
  merged,      // cut into twice as many, then joined at random where two make a rectangle
  both,        // wheels, then merged
};

struct Rectangle {
  int steps = 1000;
  std::size_t units = 1'000'000;  // of kAlignment bytes
};

/// About `count` requests in random order that need `whole.units` units and no more.
class CutRectangle {
 public:
  CutRectangle(unsigned seed, std::size_t count, Cuts cuts, Rectangle whole)
      : random_(seed), pieces_{{0, whole.steps, 0, static_cast<std::int64_t>(whole.units)}} {
    const bool merged = cuts == Cuts::merged || cuts == Cuts::both;
    const bool wheels = cuts == Cuts::wheels || cuts == Cuts::both;
    cut(cuts == Cuts::merged ? 2 * count : cuts == Cuts::both ? count + count / 4 : count, wheels);
    if (merged) merge(count);
  }

  [[nodiscard]] std::vector<Request> requests() {
    std::vector<std::size_t> order(pieces_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[static_cast<std::size_t>(below(static_cast<int>(i)))]);
    std::vector<Request> result;
    for (const std::size_t i : order) {
      const Piece& p = pieces_[i];
      result.push_back({.bytes = static_cast<std::size_t>(p.high - p.low) * kAlignment,
                        .first = p.first,
                        .end = p.end});
    }
    return result;
  }

 private:
  struct Piece {
    int first, end;
    std::int64_t low, high;
  };

  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(n));
  }
  /// A place strictly between.
  template <typename T>
  T between(T low, T high) {
    return low + 1 + static_cast<T>(below(high - low - 1));
  }

  /// Any piece, larger ones sooner.
  std::size_t pick() {
    const auto area = [&](std::size_t i) {
      const Piece& p = pieces_[i];
      return static_cast<double>(p.end - p.first) * static_cast<double>(p.high - p.low);
    };
    const auto count = static_cast<std::int64_t>(pieces_.size());
    auto best = static_cast<std::size_t>(below(count));
    for (int draw = 0; draw < 3; ++draw) {
      const auto other = static_cast<std::size_t>(below(count));
      if (area(other) > area(best)) best = other;
    }
    return best;
  }

  void cut(std::size_t count, bool wheels) {
    for (int stuck = 0; pieces_.size() < count && stuck < 100'000;) {
      const std::size_t i = pick();
      const Piece p = pieces_[i];
      ++stuck;
      if (wheels && below(2) == 0 && p.end - p.first > 2 && p.high - p.low > 2) {
        const int a = p.first + 1 + static_cast<int>(below(p.end - p.first - 2));
        const int b = between(a, p.end);
        const std::int64_t c = p.low + 1 + below(p.high - p.low - 2);
        const std::int64_t d = between(c, p.high);
        pieces_[i] = {a, b, c, d};
        pieces_.push_back({p.first, b, p.low, c});
        pieces_.push_back({b, p.end, p.low, d});
        pieces_.push_back({a, p.end, d, p.high});
        pieces_.push_back({p.first, a, c, p.high});
      } else if (below(2) == 0) {
        if (p.end - p.first < 2) continue;
        const int at = between(p.first, p.end);
        pieces_[i] = {p.first, at, p.low, p.high};
        pieces_.push_back({at, p.end, p.low, p.high});
      } else {
        if (p.high - p.low < 2) continue;
        const std::int64_t at = between(p.low, p.high);
        pieces_[i] = {p.first, p.end, p.low, at};
        pieces_.push_back({p.first, p.end, at, p.high});
      }
      stuck = 0;
    }
  }

  void merge(std::size_t count) {
    for (int tries = 0; pieces_.size() > count && tries < 1'000'000; ++tries) {
      const auto size = static_cast<std::int64_t>(pieces_.size());
      const auto i = static_cast<std::size_t>(below(size)),
                 k = static_cast<std::size_t>(below(size));
      Piece& a = pieces_[i];
      const Piece& b = pieces_[k];
      const bool above = a.first == b.first && a.end == b.end && a.high == b.low;
      const bool behind = a.low == b.low && a.high == b.high && a.end == b.first;
      if (i == k || !(above || behind)) continue;
      a.end = std::max(a.end, b.end);
      a.high = std::max(a.high, b.high);
      pieces_.erase(pieces_.begin() + static_cast<std::ptrdiff_t>(k));
    }
  }

  std::mt19937 random_;
  std::vector<Piece> pieces_;
};

}  // namespace poolgrad::memory::testing

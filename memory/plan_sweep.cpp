// Gaps by size and by place, as time goes by. Better plans for fewer items are made elsewhere.
#include "memory/plan_sweep.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <utility>

namespace poolgrad::memory {
namespace {

constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();

/// The free bytes at one moment. The last gap has no end.
class Gaps {
 public:
  Gaps() { add(0, kUnbounded); }

  /// Takes `size` from the smallest gap that holds it: its lower or its upper end. The gap that has
  /// no end gives its lower one.
  std::size_t take(std::size_t size, std::size_t alignment, bool low) {
    for (auto gap = by_size_.lower_bound({size, 0}); gap != by_size_.end(); ++gap) {
      const auto [length, begin] = *gap;
      const std::size_t end = length == kUnbounded ? kUnbounded : begin + length;
      const bool from_below = low || end == kUnbounded;
      const std::size_t offset =
          from_below ? aligned(begin, alignment) : (end - size) / alignment * alignment;
      if (offset < begin || end - offset < size) continue;
      erase(begin, length);
      if (offset > begin) add(begin, offset);
      if (end == kUnbounded || end > offset + size) add(offset + size, end);
      return offset;
    }
    return kUnbounded;  // not reached: the last gap holds all
  }

  void give_back(std::size_t begin, std::size_t size) {
    std::size_t end = begin + size;
    auto next = by_place_.lower_bound(begin);
    if (next != by_place_.end() && next->first == end) {
      end = next->second;
      const auto gone = next++;
      erase_found(gone);
    }
    if (next != by_place_.begin()) {
      const auto before = std::prev(next);
      if (before->second == begin) {
        begin = before->first;
        erase_found(before);
      }
    }
    add(begin, end);
  }

 private:
  using ByPlace = std::map<std::size_t, std::size_t>;  // begin to end

  static std::size_t length(std::size_t begin, std::size_t end) {
    return end == kUnbounded ? kUnbounded : end - begin;
  }
  void add(std::size_t begin, std::size_t end) {
    by_place_.emplace(begin, end);
    by_size_.emplace(length(begin, end), begin);
  }
  void erase(std::size_t begin, std::size_t length) {
    by_place_.erase(begin);
    by_size_.erase({length, begin});
  }
  void erase_found(ByPlace::const_iterator gap) {
    by_size_.erase({length(gap->first, gap->second), gap->first});
    by_place_.erase(gap);
  }

  ByPlace by_place_;
  std::set<std::pair<std::size_t, std::size_t>> by_size_;  // length, begin
};

struct Life {
  int first = 0;
  int end = 0;
  [[nodiscard]] std::int64_t length() const { return std::int64_t{end} - first; }
};

}  // namespace

Sweep sweep(std::span<const Item> items, std::size_t goal) {
  const bool team = std::ranges::any_of(
      items, [&](const Item& item) { return item.member < 0 || item.member != items[0].member; });
  std::vector<Life> lives;
  std::vector<std::int64_t> lengths;
  for (const Item& item : items) {
    lives.push_back(team ? Life{item.first_phase, item.end_phase} : Life{item.first, item.end});
    lengths.push_back(lives.back().length());
  }
  std::vector<std::size_t> begins(items.size());
  std::iota(begins.begin(), begins.end(), std::size_t{0});
  std::vector<std::size_t> ends = begins;
  std::ranges::stable_sort(begins, [&](std::size_t a, std::size_t b) {
    if (lives[a].first != lives[b].first) return lives[a].first < lives[b].first;
    return items[a].size > items[b].size;
  });
  std::ranges::stable_sort(ends, {}, [&](std::size_t i) { return lives[i].end; });

  Sweep best{{}, kUnbounded};
  std::vector<std::size_t> offsets(items.size());
  std::ranges::sort(lengths);
  for (const std::size_t percent : {100, 50, 80}) {  // of the lives count as short
    const std::int64_t longest = percent == 100 ? -1 : lengths[lengths.size() * percent / 100];
    Gaps gaps;
    std::size_t top = 0;
    auto ended = ends.begin();
    for (const std::size_t i : begins) {
      for (; lives[*ended].end <= lives[i].first; ++ended)
        gaps.give_back(offsets[*ended], items[*ended].size);
      offsets[i] = gaps.take(items[i].size, items[i].alignment, lives[i].length() > longest);
      top = std::max(top, offsets[i] + items[i].size);
    }
    if (top < best.top) best = {offsets, top};
    if (best.top <= goal) break;
  }
  return best;
}

}  // namespace poolgrad::memory

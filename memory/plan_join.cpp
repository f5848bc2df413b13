// Joins pieces, each rule over all pieces at once, until none applies. Searching is elsewhere.
#include "memory/plan_join.h"

#include <algorithm>
#include <map>
#include <utility>

#include "memory/plan_random.h"
#include "memory/plan_seams.h"

namespace poolgrad::memory {
namespace {

using Index = std::size_t;

/// Pieces by the time they begin, or end, at.
std::map<int, std::vector<Index>> by_time(const std::vector<Piece>& pieces, int Piece::*time) {
  std::map<int, std::vector<Index>> result;
  for (Index i = 0; i < pieces.size(); ++i) result[pieces[i].*time].push_back(i);
  return result;
}

std::map<std::pair<int, int>, std::vector<Index>> by_life(const std::vector<Piece>& pieces) {
  std::map<std::pair<int, int>, std::vector<Index>> result;
  for (Index i = 0; i < pieces.size(); ++i) result[{pieces[i].first, pieces[i].end}].push_back(i);
  return result;
}

/// Those of `pieces` at `time` that have `size`.
std::vector<Index> sized(const std::map<int, std::vector<Index>>& at, int time,
                         const std::vector<Piece>& pieces, std::int64_t size) {
  std::vector<Index> result;
  const auto found = at.find(time);
  if (found == at.end()) return result;
  for (const Index i : found->second) {
    if (pieces[i].size == size) result.push_back(i);
  }
  return result;
}

}  // namespace

Joined::Joined(std::span<const Piece> pieces, std::int64_t capacity)
    : capacity_(capacity),
      count_(pieces.size()),
      nodes_(pieces.size()),
      pieces_(pieces.begin(), pieces.end()),
      gone_(pieces.size()) {
  for (Index i = 0; i < count_; ++i) node_of_.push_back(i);
}

void Joined::join(Daring daring, std::uint64_t seed, unsigned doubt) {
  seed_ = seed;
  doubt_ = doubt;
  std::uint64_t state = seed;
  const bool matches = daring != Daring::groups;
  for (;; drop_joined()) {
    if (!grouped_ && join_groups()) continue;
    if (matches && (join_rows() || join_supported_stacks())) continue;
    if (join_wheels()) continue;
    grouped_ = true;  // costs more than all else, and after a wrong stack says nothing
    if (daring != Daring::stacks || !join_one_stack(state)) break;
  }
}

bool Joined::doubted(Index a, Index b) const {
  if (doubt_ == 0) return false;
  std::uint64_t hash = seed_;
  for (const Index i : {a, b}) {
    for (const std::int64_t value :
         {std::int64_t{pieces_[i].first}, std::int64_t{pieces_[i].end}, pieces_[i].size}) {
      hash = (hash ^ static_cast<std::uint64_t>(value)) * 0x9E3779B97F4A7C15U;
      hash ^= hash >> 29U;
    }
  }
  return (hash >> 8U) % 100 < doubt_;
}

std::vector<std::int64_t> Joined::offsets(std::span<const std::int64_t> joined) const {
  std::vector<std::int64_t> of_nodes(nodes_.size());
  for (Index i = 0; i < pieces_.size(); ++i) of_nodes[node_of_[i]] = joined[i];
  for (Index node = nodes_.size(); node-- > count_;) {  // a whole comes after its parts
    for (const Part& part : nodes_[node]) of_nodes[part.node] = of_nodes[node] + part.offset;
  }
  of_nodes.resize(count_);
  return of_nodes;
}

/// One ends where the other begins, their sizes are equal, and no third piece is like either.
bool Joined::join_rows() {
  const auto begin = by_time(pieces_, &Piece::first);
  const auto end = by_time(pieces_, &Piece::end);
  bool any = false;
  for (const auto& [time, ended] : end) {
    for (const Index left : ended) {
      const std::int64_t size = pieces_[left].size;
      if (gone_[left] != 0 || sized(end, time, pieces_, size).size() != 1) continue;
      const std::vector<Index> right = sized(begin, time, pieces_, size);
      if (right.size() != 1 || gone_[right[0]] != 0 || doubted(left, right[0])) continue;
      join({pieces_[left].first, pieces_[right[0]].end, size},
           {{node_of_[left], 0}, {node_of_[right[0]], 0}});
      gone_[left] = gone_[right[0]] = 1;
      any = true;
    }
  }
  return any;
}

/// Two of equal lives that together are as large as one piece before or behind them.
bool Joined::join_supported_stacks() {
  const auto begin = by_time(pieces_, &Piece::first);
  const auto end = by_time(pieces_, &Piece::end);
  bool any = false;
  for (const auto& [life, group] : by_life(pieces_)) {
    for (Index k = 1; k < group.size(); ++k) {
      for (Index j = 0; j < k; ++j) {
        const Index a = group[k], b = group[j];
        if (gone_[a] != 0 || gone_[b] != 0 || doubted(a, b)) continue;
        const std::int64_t size = pieces_[a].size + pieces_[b].size;
        if (sized(end, life.first, pieces_, size).empty() &&
            sized(begin, life.second, pieces_, size).empty())
          continue;
        join({life.first, life.second, size}, {{node_of_[a], 0}, {node_of_[b], pieces_[a].size}});
        gone_[a] = gone_[b] = 1;
        any = true;
      }
    }
  }
  return any;
}

/// Two of equal lives that belong to one group both where they begin and where they end; two that
/// are a group.
bool Joined::join_groups() {
  std::vector<int> times;
  for (const Piece& piece : pieces_) times.insert(times.end(), {piece.first, piece.end});
  std::ranges::sort(times);
  times.erase(std::unique(times.begin(), times.end()), times.end());
  const auto place = [&](int time) {
    return static_cast<int>(std::ranges::lower_bound(times, time) - times.begin());
  };
  std::vector<std::int64_t> spare(times.size() - 1, capacity_);
  std::vector<Piece> placed;
  for (const Piece& piece : pieces_) {
    placed.push_back({place(piece.first), place(piece.end), piece.size});
    for (int c = placed.back().first; c < placed.back().end; ++c)
      spare[static_cast<std::size_t>(c)] -= piece.size;
  }
  Seams seams(placed, static_cast<int>(spare.size()));
  seams.divide(spare);
  bool any = false;
  const auto begin = by_time(pieces_, &Piece::first);
  for (Index left = 0, count = pieces_.size(); left < count; ++left) {
    const int group = seams.least_group(static_cast<int>(left), true);
    const auto behind = begin.find(pieces_[left].end);
    if (group == Seams::kUnknown || behind == begin.end() || gone_[left] != 0) continue;
    for (const Index right : behind->second) {
      if (pieces_[left].size != pieces_[right].size || gone_[right] != 0 ||
          seams.least_group(static_cast<int>(right), false) != group || doubted(left, right))
        continue;
      join({pieces_[left].first, pieces_[right].end, pieces_[left].size},
           {{node_of_[left], 0}, {node_of_[right], 0}});
      gone_[left] = gone_[right] = 1;
      any = true;
      break;
    }
  }
  if (any) return true;
  for (const auto& [life, group] : by_life(pieces_)) {
    for (Index k = 1; k < group.size(); ++k) {
      for (Index j = 0; j < k; ++j) {
        const Index a = group[k], b = group[j];
        if (gone_[a] != 0 || gone_[b] != 0 || doubted(a, b)) continue;
        bool together = true;
        for (const bool at_end : {false, true}) {
          const int whole = seams.least_group(static_cast<int>(a), at_end);
          together = together && whole != Seams::kUnknown &&
                     whole == seams.least_group(static_cast<int>(b), at_end);
        }
        if (!together) continue;
        join({life.first, life.second, pieces_[a].size + pieces_[b].size},
             {{node_of_[a], 0}, {node_of_[b], pieces_[a].size}});
        gone_[a] = gone_[b] = 1;
        any = true;
      }
    }
  }
  return any;
}

/// Five that make a rectangle without any two of them making one: a hub, and four around it of
/// which each is flush with the next.
///
///     left  |    top        left.size  == hub.size + top.size
///     left  | hub  | right  right.size == hub.size + bottom.size
///        bottom    | right
bool Joined::join_wheels() {
  const auto begin = by_time(pieces_, &Piece::first);
  const auto end = by_time(pieces_, &Piece::end);
  const auto at = [](const std::map<int, std::vector<Index>>& map, int time) {
    const auto found = map.find(time);
    return found == map.end() ? std::vector<Index>{} : found->second;
  };
  bool any = false;
  for (Index hub = 0; hub < pieces_.size(); ++hub) {
    const Piece& h = pieces_[hub];
    for (const Index left : at(end, h.first)) {
      const std::int64_t over = pieces_[left].size - h.size;
      if (over <= 0) continue;
      for (const Index top : sized(begin, h.first, pieces_, over)) {
        if (top == hub || pieces_[top].end <= h.end) continue;
        for (const Index bottom : at(end, h.end)) {
          if (bottom == hub || pieces_[bottom].first != pieces_[left].first) continue;
          for (const Index right : sized(begin, h.end, pieces_, h.size + pieces_[bottom].size)) {
            const Index all[] = {hub, left, top, bottom, right};
            if (pieces_[right].end != pieces_[top].end ||
                std::ranges::any_of(all, [&](Index i) { return gone_[i] != 0; }))
              continue;
            const std::int64_t low = pieces_[bottom].size;
            join({pieces_[left].first, pieces_[top].end, low + pieces_[left].size},
                 {{node_of_[bottom], 0},
                  {node_of_[left], low},
                  {node_of_[hub], low},
                  {node_of_[right], 0},
                  {node_of_[top], low + h.size}});
            for (const Index i : all) gone_[i] = 1;
            any = true;
          }
        }
      }
    }
  }
  return any;
}

/// Two of equal lives, from where there are fewest to choose from; with a seed, about there.
bool Joined::join_one_stack(std::uint64_t& state) {
  const std::vector<Index>* best = nullptr;
  const auto groups = by_life(pieces_);
  double least = 0;
  for (const auto& [life, group] : groups) {
    if (group.size() < 2) continue;
    double weight = static_cast<double>(group.size()) * 1e6 + (life.second - life.first);
    if (state != 0) weight *= 0.2 + static_cast<double>(draw(state) % 1000) / 1000;
    if (best != nullptr && weight >= least) continue;
    best = &group;
    least = weight;
  }
  if (best == nullptr) return false;
  Index a = 0, b = 1;
  if (state != 0) {
    a = draw(state) % best->size();
    b = (a + 1 + draw(state) % (best->size() - 1)) % best->size();
  }
  a = (*best)[a];
  b = (*best)[b];
  join({pieces_[a].first, pieces_[a].end, pieces_[a].size + pieces_[b].size},
       {{node_of_[a], 0}, {node_of_[b], pieces_[a].size}});
  gone_[a] = gone_[b] = 1;
  return true;
}

/// The whole is put behind all pieces; its parts go in drop_joined().
void Joined::join(Piece whole, std::vector<Part> parts) {
  node_of_.push_back(nodes_.size());
  nodes_.push_back(std::move(parts));
  pieces_.push_back(whole);
  gone_.push_back(0);
}

void Joined::drop_joined() {
  Index kept = 0;
  for (Index i = 0; i < pieces_.size(); ++i) {
    if (gone_[i] != 0) continue;
    pieces_[kept] = pieces_[i];
    node_of_[kept++] = node_of_[i];
  }
  pieces_.resize(kept);
  node_of_.resize(kept);
  gone_.assign(kept, 0);
}

}  // namespace poolgrad::memory

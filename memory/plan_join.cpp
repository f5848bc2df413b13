// Joins pieces, each rule over all pieces at once, until none applies. Searching is elsewhere.
#include "memory/plan_join.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "memory/plan_random.h"
#include "memory/plan_seams.h"

namespace poolgrad::memory {
namespace {

using Index = std::size_t;

using ByTime = std::map<int, std::vector<Index>>;

/// Pieces by the time they begin, or end, at.
ByTime by_time(const std::vector<Piece>& pieces, int Piece::*time) {
  ByTime result;
  for (Index i = 0; i < pieces.size(); ++i) result[pieces[i].*time].push_back(i);
  return result;
}

std::map<std::pair<int, int>, std::vector<Index>> by_life(const std::vector<Piece>& pieces) {
  std::map<std::pair<int, int>, std::vector<Index>> result;
  for (Index i = 0; i < pieces.size(); ++i) result[{pieces[i].first, pieces[i].end}].push_back(i);
  return result;
}

std::vector<Index> at(const ByTime& pieces, int time) {
  const auto found = pieces.find(time);
  return found == pieces.end() ? std::vector<Index>{} : found->second;
}

/// Those at `time` that have `size`.
std::vector<Index> sized(const ByTime& by_time, int time, const std::vector<Piece>& pieces,
                         std::int64_t size) {
  std::vector<Index> result = at(by_time, time);
  std::erase_if(result, [&](Index i) { return pieces[i].size != size; });
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

/// Stacks two of equal lives wherever `fits` says so.
template <typename Fits>
bool Joined::stack_where(const Fits& fits) {
  bool any = false;
  for (const auto& [life, group] : by_life(pieces_)) {
    for (Index k = 1; k < group.size(); ++k) {
      for (Index j = 0; j < k; ++j) {
        const Index a = group[k], b = group[j];
        if (gone_[a] != 0 || gone_[b] != 0 || doubted(a, b) || !fits(a, b)) continue;
        stack(a, b);
        any = true;
      }
    }
  }
  return any;
}

/// Two that together are as large as one piece before or behind them.
bool Joined::join_supported_stacks() {
  const auto begin = by_time(pieces_, &Piece::first);
  const auto end = by_time(pieces_, &Piece::end);
  return stack_where([&](Index a, Index b) {
    const std::int64_t size = pieces_[a].size + pieces_[b].size;
    return !sized(end, pieces_[a].first, pieces_, size).empty() ||
           !sized(begin, pieces_[a].end, pieces_, size).empty();
  });
}

/// Which pieces belong to one group at a seam, as sums of sizes tell.
class Joined::Groups {
 public:
  Groups(const std::vector<Piece>& pieces, std::int64_t capacity) {
    std::vector<int> times;
    for (const Piece& piece : pieces) times.insert(times.end(), {piece.first, piece.end});
    std::ranges::sort(times);
    times.erase(std::unique(times.begin(), times.end()), times.end());
    const auto place = [&](int time) {
      return static_cast<int>(std::ranges::lower_bound(times, time) - times.begin());
    };
    std::vector<std::int64_t> spare(times.size() - 1, capacity);
    for (const Piece& piece : pieces) {
      placed_.push_back({place(piece.first), place(piece.end), piece.size});
      for (int c = placed_.back().first; c < placed_.back().end; ++c)
        spare[static_cast<std::size_t>(c)] -= piece.size;
    }
    seams_.emplace(placed_, static_cast<int>(spare.size()));
    seams_->divide(spare);
  }

  [[nodiscard]] bool one(Index a, bool a_at_end, Index b, bool b_at_end) const {
    const int group = seams_->least_group(static_cast<int>(a), a_at_end);
    return group != Seams::kUnknown && group == seams_->least_group(static_cast<int>(b), b_at_end);
  }

 private:
  std::vector<Piece> placed_;  // in columns
  std::optional<Seams> seams_;
};

bool Joined::join_groups() {
  const Groups groups(pieces_, capacity_);
  return join_group_rows(groups) || join_group_stacks(groups);
}

/// Two of one size that are a group where the one ends and the other begins.
bool Joined::join_group_rows(const Groups& groups) {
  bool any = false;
  const auto begin = by_time(pieces_, &Piece::first);
  for (Index left = 0, count = pieces_.size(); left < count; ++left) {
    if (gone_[left] != 0) continue;
    for (const Index right : sized(begin, pieces_[left].end, pieces_, pieces_[left].size)) {
      if (gone_[right] != 0 || !groups.one(left, true, right, false) || doubted(left, right))
        continue;
      join({pieces_[left].first, pieces_[right].end, pieces_[left].size},
           {{node_of_[left], 0}, {node_of_[right], 0}});
      gone_[left] = gone_[right] = 1;
      any = true;
      break;
    }
  }
  return any;
}

/// Two that belong to one group both where they begin and where they end.
bool Joined::join_group_stacks(const Groups& groups) {
  return stack_where([&](Index a, Index b) {
    return groups.one(a, false, b, false) && groups.one(a, true, b, true);
  });
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
  bool any = false;
  for (Index hub = 0, count = pieces_.size(); hub < count; ++hub) {
    if (gone_[hub] == 0 && join_wheel(hub, begin, end)) any = true;
  }
  return any;
}

/// The first wheel around `hub`.
bool Joined::join_wheel(Index hub, const ByTime& begin, const ByTime& end) {
  const Piece h = pieces_[hub];
  const auto free = [&](Index i) { return gone_[i] == 0 && i != hub; };
  for (const Index left : at(end, h.first)) {
    const std::int64_t over = pieces_[left].size - h.size;
    if (over <= 0 || !free(left)) continue;
    for (const Index top : sized(begin, h.first, pieces_, over)) {
      if (!free(top) || pieces_[top].end <= h.end) continue;
      for (const Index bottom : at(end, h.end)) {
        if (!free(bottom) || pieces_[bottom].first != pieces_[left].first) continue;
        const std::int64_t low = pieces_[bottom].size;
        for (const Index right : sized(begin, h.end, pieces_, h.size + low)) {
          if (!free(right) || pieces_[right].end != pieces_[top].end) continue;
          join({pieces_[left].first, pieces_[top].end, low + pieces_[left].size},
               {{node_of_[bottom], 0},
                {node_of_[left], low},
                {node_of_[hub], low},
                {node_of_[right], 0},
                {node_of_[top], low + h.size}});
          for (const Index i : {hub, left, top, bottom, right}) gone_[i] = 1;
          return true;
        }
      }
    }
  }
  return false;
}

/// Two of equal lives, from where there are fewest to choose from; with a seed, about there.
bool Joined::join_one_stack(std::uint64_t& state) {
  const std::vector<Index>* best = nullptr;
  const auto groups = by_life(pieces_);
  double least = 0;
  for (const auto& [life, group] : groups) {
    if (group.size() < 2) continue;
    const auto length = static_cast<double>(std::int64_t{life.second} - life.first);
    double weight = static_cast<double>(group.size()) * 1e6 + length;
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
  stack((*best)[a], (*best)[b]);
  return true;
}

/// Two of equal lives, `b` on top of `a`.
void Joined::stack(Index a, Index b) {
  join({pieces_[a].first, pieces_[a].end, pieces_[a].size + pieces_[b].size},
       {{node_of_[a], 0}, {node_of_[b], pieces_[a].size}});
  gone_[a] = gone_[b] = 1;
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

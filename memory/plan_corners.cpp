// Which corner the exact search fills next, and with what first. A trial's effects are in
// plan_search.cpp.
#include <algorithm>
#include <cmath>
#include <limits>

#include "memory/plan_search.h"

namespace poolgrad::memory {
namespace {

constexpr std::int64_t kInfinite = std::numeric_limits<std::int64_t>::max();

// By how many pieces it takes to reach a wall's height exactly: such a coincidence is seldom one.
constexpr double kScores[] = {10, 7, 4, 0};
constexpr double kSharpness =
    0.3;  // how much less a candidate counts per point that it lags behind

}  // namespace

/// The height of a column as its neighbours see it; where nothing is left to place, infinite.
std::int64_t IntervalSearch::wall(Index column) const {
  if (column < 0 || column >= columns_) return kInfinite;
  const auto c = static_cast<std::size_t>(column);
  return open_[c] == 0 ? kInfinite : floor_[c];
}

/// The pieces that begin, or end, in the corner.
const std::vector<IntervalSearch::Index>& IntervalSearch::at(const Corner& corner) const {
  const auto& lists = corner.right ? end_at_ : begin_at_;
  return lists[static_cast<std::size_t>(corner.column)];
}

/// Whether a piece at the corner is a candidate. Of two pieces that live equally long and lie on
/// each other, either order will do, so only one is tried.
bool IntervalSearch::fits(Index piece, const Corner& corner) const {
  if (offset_[static_cast<std::size_t>(piece)] >= 0) return false;
  const Piece& p = pieces_[static_cast<std::size_t>(piece)];
  if (p.first < corner.valley.begin || p.end > corner.valley.end) return false;
  const Index below = top_[static_cast<std::size_t>(corner.column)];
  if (below <= piece) return true;
  const Piece& b = pieces_[static_cast<std::size_t>(below)];
  return b.first != p.first || b.end != p.end ||
         offset_[static_cast<std::size_t>(below)] + b.size != corner.valley.height;
}

/// How many more pieces it takes beside and across from `piece` until both sides of a seam it
/// touches are level; where nothing may stay empty, all that are left always do. kNever where a
/// group that has begun there would not be finished first.
int IntervalSearch::level_with(Index piece, Index seam) {
  if (seam == 0 || seam == columns_) return Seams::kMany;
  const Piece& p = pieces_[static_cast<std::size_t>(piece)];
  const auto right = static_cast<std::size_t>(seam), left = right - 1;
  const std::int64_t step = floor_[left] - floor_[right];
  if (strict_ && step != 0 && seams_->divided(seam)) {  // then nothing was raised here
    const int open = step > 0 ? seams_->group(top_[left], true) : seams_->group(top_[right], false);
    if (seams_->group(piece, p.end == seam) != open) return Seams::kNever;
  }
  const std::int64_t rise = step + (p.first == seam ? -p.size : p.size);
  return std::min(seams_->fewest(seam, rise, piece), Seams::kMany);
}

/// How well `piece` goes with the seams it touches; negative where it cannot.
double IntervalSearch::score(Index piece) {
  const Piece& p = pieces_[static_cast<std::size_t>(piece)];
  double result = 0;
  for (const Index seam : {p.first, p.end}) {
    const int others = level_with(piece, seam);
    if (others == Seams::kNever) return -1;
    result += kScores[std::min(others, 3)];
  }
  return result;
}

/// How many candidates a corner has, weaker ones counting less, over how often it has failed. Dead:
/// it has none and may not stay empty.
double IntervalSearch::weigh(const Corner& corner, bool& dead) {
  const auto column = static_cast<std::size_t>(corner.column);
  double best = 0, result = 0;
  std::size_t count = 0;
  for (const Index piece : at(corner)) {
    if (!fits(piece, corner)) continue;
    const double points = score(piece);
    if (points < 0) continue;
    ++count;
    if (points > best) {
      result *= std::exp((best - points) * kSharpness);
      best = points;
    }
    result += std::exp((points - best) * kSharpness);
  }
  if (count > 1) result = std::max(result, 1.01);
  dead = count == 0 && (spare_[column] == 0 || raised(corner) < 0);
  if (spare_[column] > 0) result = 2 * result + 2;
  return result / weight_[column];
}

/// Where the floor of a corner's column goes when nothing is to lie on it: whatever lies there
/// rests on a wall or on a piece that lies in the valley beside it. -1: the column cannot spare so
/// much, or nothing could be rested on.
std::int64_t IntervalSearch::raised(const Corner& corner) const {
  const auto& [valley, column, right] = corner;
  std::int64_t to = std::min(wall(valley.begin - 1), wall(valley.end));
  for (Index c = valley.begin; c < valley.end; ++c) {
    for (const Index piece : begin_at_[static_cast<std::size_t>(c)]) {
      const Piece& p = pieces_[static_cast<std::size_t>(piece)];
      if (offset_[static_cast<std::size_t>(piece)] >= 0 || p.end > valley.end) continue;
      if (p.first <= column && column < p.end) continue;
      to = std::min(to, valley.height + p.size);
    }
  }
  return to - valley.height <= spare_[static_cast<std::size_t>(column)] ? to : -1;
}

/// The candidates of a corner, the likeliest first; to leave it empty comes last.
void IntervalSearch::list(Frame& frame) {
  const Corner& corner = frame.corner;
  for (const Index piece : at(corner)) {
    const Piece& p = pieces_[static_cast<std::size_t>(piece)];
    frame.blocked = frame.blocked || (offset_[static_cast<std::size_t>(piece)] < 0 &&
                                      (p.first < corner.valley.begin || p.end > corner.valley.end));
    if (!fits(piece, corner)) continue;
    const bool twin =
        std::any_of(candidates_.begin() + static_cast<std::ptrdiff_t>(frame.begin),
                    candidates_.end(), [&](const Candidate& c) {
                      const Piece& other = pieces_[static_cast<std::size_t>(c.piece)];
                      return other.first == p.first && other.end == p.end && other.size == p.size;
                    });
    if (twin) continue;
    if (const double points = score(piece); points >= 0) candidates_.push_back({piece, 0, points});
  }
  for (std::size_t i = frame.begin; i < candidates_.size(); ++i) {
    const Piece& p = pieces_[static_cast<std::size_t>(candidates_[i].piece)];
    const double width = static_cast<double>(p.end - p.first) / columns_;
    const double share = static_cast<double>(p.size) / static_cast<double>(capacity_);
    const double ties[] = {width, share, width * share};
    candidates_[i].score += ties[static_cast<std::size_t>(runs_) % 3];
    if (runs_ > 1 && random() % 4 == 0)
      candidates_[i].score += static_cast<double>(random() % 1000) * 0.01;
  }
  std::stable_sort(candidates_.begin() + static_cast<std::ptrdiff_t>(frame.begin),
                   candidates_.end(),
                   [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
  if (spare_[static_cast<std::size_t>(corner.column)] > 0) {
    if (const std::int64_t to = raised(corner); to >= 0) candidates_.push_back({kNone, to, 0});
  }
  frame.end = candidates_.size();
}

}  // namespace poolgrad::memory

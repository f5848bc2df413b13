// The exact search for intervals: its trials, what is changed by them, and going back. How corners
// are chosen and candidates are ordered is in plan_corners.cpp.
#include "memory/plan_search.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>

namespace poolgrad::memory {
namespace {

constexpr std::size_t kWordBits = 64;

std::size_t place_of(const std::vector<int>& times, int time) {
  return static_cast<std::size_t>(std::ranges::lower_bound(times, time) - times.begin());
}

}  // namespace

IntervalSearch::IntervalSearch(std::span<const Piece> pieces, std::int64_t capacity, bool strict)
    : capacity_(capacity), strict_(strict) {
  compress(pieces);
  seams_.emplace(pieces_, columns_);
  weight_.assign(floor_.size(), 1.0);
  reset();
  if (strict) seams_->divide(spare_);
}

/// Keeps of all times those where most is alive: a time at which something begins and after which,
/// before anything else begins, something ends.
void IntervalSearch::compress(std::span<const Piece> pieces) {
  std::vector<int> begins, ends, columns;
  for (const Piece& piece : pieces) {
    begins.push_back(piece.first);
    ends.push_back(piece.end);
  }
  std::ranges::sort(begins);
  std::ranges::sort(ends);
  begins.erase(std::unique(begins.begin(), begins.end()), begins.end());
  for (std::size_t k = 0; k < begins.size(); ++k) {
    const auto ended = std::ranges::upper_bound(ends, begins[k]);
    if (k + 1 == begins.size() || (ended != ends.end() && *ended <= begins[k + 1]))
      columns.push_back(begins[k]);
  }
  input_.resize(pieces.size());
  std::iota(input_.begin(), input_.end(), std::size_t{0});
  const auto columns_of = [&](std::size_t i) {
    return Piece{static_cast<int>(place_of(columns, pieces[i].first)),
                 static_cast<int>(place_of(columns, pieces[i].end)), pieces[i].size};
  };
  std::ranges::stable_sort(input_, {}, [&](std::size_t i) {
    const Piece piece = columns_of(i);
    return std::tuple(piece.first, piece.end, piece.size);
  });
  begin_at_.resize(columns.size());
  end_at_.resize(columns.size());
  for (const std::size_t i : input_) {
    const Piece piece = columns_of(i);
    const auto index = static_cast<Index>(pieces_.size());
    begin_at_[static_cast<std::size_t>(piece.first)].push_back(index);
    end_at_[static_cast<std::size_t>(piece.end) - 1].push_back(index);
    pieces_.push_back(piece);
  }
  columns_ = static_cast<Index>(columns.size());
  floor_.resize(columns.size());
}

void IntervalSearch::reset() {
  offset_.assign(pieces_.size(), -1);
  std::ranges::fill(floor_, 0);
  spare_.assign(floor_.size(), capacity_);
  open_.assign(floor_.size(), 0);
  top_.assign(floor_.size(), kNone);
  levels_at_.assign(floor_.size(), {});
  for (const Piece& piece : pieces_) {
    for (int c = piece.first; c < piece.end; ++c) {
      spare_[static_cast<std::size_t>(c)] -= piece.size;
      ++open_[static_cast<std::size_t>(c)];
    }
  }
  seams_->reset();
  frames_.clear();
  candidates_.clear();
  changes_.clear();
  words_ = pieces_.size() / kWordBits + 1;
  failure_.assign(words_, 0);
}

Found IntervalSearch::run(std::int64_t nodes, PlanLimits& limits) {
  reset();
  ++runs_;
  if (std::ranges::any_of(spare_, [](std::int64_t spare) { return spare < 0; }))
    return Found::nothing;
  Step step = open();
  while (step != Step::solved) {
    if (step == Step::failed && !fail()) return Found::nothing;
    Frame& frame = frames_.back();
    undo(frame.changes);
    if (frame.next == frame.end) {  // all its candidates failed: so does the corner
      std::uint64_t* blame = blame_of(static_cast<Index>(frames_.size()) - 1);
      blame_corner(frame.corner, frame.blocked, blame);
      std::copy_n(blame, words_, failure_.begin());
      candidates_.resize(frame.begin);
      frames_.pop_back();
      step = Step::failed;
      continue;
    }
    if (nodes-- <= 0 || !limits.take()) return Found::limit;
    try_next(frame);
    step = open();
  }
  return Found::plan;
}

std::vector<std::int64_t> IntervalSearch::offsets() const {
  std::vector<std::int64_t> result(offset_.size());
  for (std::size_t i = 0; i < offset_.size(); ++i) result[input_[i]] = offset_[i];
  return result;
}

/// Chooses a corner and lists its candidates on a new level.
IntervalSearch::Step IntervalSearch::open() {
  Frame frame;
  frame.changes = changes_.size();
  frame.begin = frame.next = candidates_.size();
  double least = std::numeric_limits<double>::infinity();
  bool any = false;
  for (Index begin = 0, end = 0; begin < columns_; begin = end) {
    const std::int64_t height = wall(begin);
    for (end = begin + 1; end < columns_ && wall(end) == height;) ++end;
    if (height == std::numeric_limits<std::int64_t>::max()) continue;  // nothing left to place
    any = true;
    if (wall(begin - 1) < height || wall(end) < height) continue;
    for (const bool right : {false, true}) {
      const Corner corner{{begin, end, height}, right ? end - 1 : begin, right};
      bool dead = false;
      const double weight = weigh(corner, dead);
      if (dead) {
        weight_[static_cast<std::size_t>(corner.column)] += 1;
        std::ranges::fill(failure_, 0);
        blame_corner(corner, true, failure_.data());
        return Step::failed;
      }
      if (weight >= least) continue;
      least = weight;
      frame.corner = corner;
    }
  }
  if (!any) return Step::solved;
  list(frame);
  frames_.push_back(frame);
  const std::size_t needed = frames_.size();
  if (needed > words_ * kWordBits) widen();
  if (blame_.size() < needed * words_) {
    blame_.resize(needed * words_);
    reason_.resize(needed * words_);
  }
  if (raised_level_.size() < needed) raised_level_.resize(needed);
  std::fill_n(blame_of(static_cast<Index>(needed) - 1), words_, 0);
  return Step::open;
}

/// Makes room for twice as many levels: raises can take more than there are pieces.
void IntervalSearch::widen() {
  for (std::vector<std::uint64_t>* sets : {&blame_, &reason_}) {
    std::vector<std::uint64_t> wider(sets->size() * 2);
    for (std::size_t i = 0; i < sets->size(); ++i)
      wider[i / words_ * 2 * words_ + i % words_] = (*sets)[i];
    *sets = std::move(wider);
  }
  words_ *= 2;
  failure_.resize(words_);
}

void IntervalSearch::try_next(Frame& frame) {
  const auto level = static_cast<Index>(frames_.size()) - 1;
  const Candidate candidate = candidates_[frame.next++];
  if (candidate.piece != kNone)
    place(candidate.piece, frame.corner.valley.height, level);
  else
    raise(frame.corner, candidate.raise, level);
}

void IntervalSearch::place(Index piece, std::int64_t height, Index level) {
  const Piece& p = pieces_[static_cast<std::size_t>(piece)];
  offset_[static_cast<std::size_t>(piece)] = height;
  seams_->use(piece);
  raised_level_[static_cast<std::size_t>(level)] = 0;
  for (int c = p.first; c < p.end; ++c) {
    const auto column = static_cast<std::size_t>(c);
    floor_[column] = height + p.size;
    --open_[column];
    changes_.push_back({kNone, c, top_[column]});
    top_[column] = piece;
    levels_at_[column].push_back(level);
  }
  changes_.push_back({piece, kNone, 0});
}

void IntervalSearch::raise(const Corner& corner, std::int64_t to, Index level) {
  std::uint64_t* reason = reason_.data() + static_cast<std::size_t>(level) * words_;
  std::fill_n(reason, words_, 0);
  for (Index c = corner.valley.begin - 1; c <= corner.valley.end; ++c) blame_column(c, reason);
  raised_level_[static_cast<std::size_t>(level)] = 1;
  const auto column = static_cast<std::size_t>(corner.column);
  const std::int64_t by = to - floor_[column];
  floor_[column] = to;
  spare_[column] -= by;
  levels_at_[column].push_back(level);
  changes_.push_back({kNone, corner.column, -by - 1});
}

void IntervalSearch::undo(std::size_t changes) {
  while (changes_.size() > changes) {
    const Change change = changes_.back();
    changes_.pop_back();
    if (change.piece != kNone) {
      const Piece& p = pieces_[static_cast<std::size_t>(change.piece)];
      const std::int64_t height = offset_[static_cast<std::size_t>(change.piece)];
      offset_[static_cast<std::size_t>(change.piece)] = -1;
      seams_->give_back(change.piece);
      for (int c = p.first; c < p.end; ++c) {
        floor_[static_cast<std::size_t>(c)] = height;
        ++open_[static_cast<std::size_t>(c)];
      }
      continue;
    }
    const auto column = static_cast<std::size_t>(change.column);
    levels_at_[column].pop_back();
    if (change.before >= kNone) {
      top_[column] = static_cast<Index>(change.before);
    } else {
      floor_[column] -= -(change.before + 1);
      spare_[column] += -(change.before + 1);
    }
  }
}

/// Goes back to the last level that the failure is to blame on; false when there is none.
bool IntervalSearch::fail() {
  while (!frames_.empty()) {
    const std::size_t level = frames_.size() - 1;
    std::uint64_t& word = failure_[level / kWordBits];
    const std::uint64_t bit = std::uint64_t{1} << level % kWordBits;
    if ((word & bit) != 0) {
      word &= ~bit;
      std::uint64_t* blame = blame_of(static_cast<Index>(level));
      for (std::size_t w = 0; w < words_; ++w) blame[w] |= failure_[w];
      return true;
    }
    undo(frames_.back().changes);
    candidates_.resize(frames_.back().begin);
    frames_.pop_back();
  }
  return false;
}

std::uint64_t* IntervalSearch::blame_of(Index level) {
  return blame_.data() + static_cast<std::size_t>(level) * words_;
}

/// Adds the levels that made a column what it is.
void IntervalSearch::blame_column(Index column, std::uint64_t* blame) const {
  if (column < 0 || column >= columns_) return;
  for (const Index level : levels_at_[static_cast<std::size_t>(column)]) {
    const auto l = static_cast<std::size_t>(level);
    blame[l / kWordBits] |= std::uint64_t{1} << l % kWordBits;
    if (raised_level_[l] == 0) continue;
    const std::uint64_t* reason = reason_.data() + l * words_;
    for (std::size_t w = 0; w < words_; ++w) blame[w] |= reason[w];
  }
}

/// Adds the levels that left a corner these candidates: those of its column and of the wall beside
/// it, of the far wall where that kept a piece out, and where the column might have stayed empty,
/// of the whole valley, which says how far.
void IntervalSearch::blame_corner(const Corner& corner, bool blocked, std::uint64_t* blame) {
  const auto& [valley, column, right] = corner;
  if (spare_[static_cast<std::size_t>(column)] > 0) {
    for (Index c = valley.begin - 1; c <= valley.end; ++c) blame_column(c, blame);
    return;
  }
  blame_column(column, blame);
  blame_column(right ? valley.end : valley.begin - 1, blame);
  if (blocked) blame_column(right ? valley.begin - 1 : valley.end, blame);
  for (const Index piece : at(corner)) {
    const Piece& p = pieces_[static_cast<std::size_t>(piece)];
    if (!fits(piece, corner)) continue;
    const Index far = right ? p.first : p.end;
    if (level_with(piece, far) != Seams::kNever) continue;
    blame_column(far - 1, blame);
    blame_column(far, blame);
  }
}

std::uint64_t IntervalSearch::random() {
  state_ ^= state_ << 13U;
  state_ ^= state_ >> 7U;
  state_ ^= state_ << 17U;
  return state_;
}

}  // namespace poolgrad::memory

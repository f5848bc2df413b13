// Plan search: whether intervals fit below a capacity, by exact search. Internal to memory/.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "memory/plan_limits.h"
#include "memory/plan_piece.h"
#include "memory/plan_seams.h"

namespace poolgrad::memory {

enum class Found { plan, nothing, limit };

/// Fills the block from the floor up. The floor of a column, a time in which nothing both begins
/// and ends, is the top of what lies there; where a run of columns is lower than both its
/// neighbours there is a valley. In a valley's corner only a piece can lie that begins (or ends)
/// right there, so a corner has few candidates; besides them, it may stay empty as far as its
/// column can spare the bytes. Corners with the fewest candidates come first. A failure names the
/// trials it came from, and the search goes back to the last of those.
class IntervalSearch {
 public:
  IntervalSearch(std::span<const Piece> pieces, std::int64_t capacity, bool strict = false);

  /// Searches anew, with at most `nodes` trials, and from the second time on with some chance.
  /// `nothing` is a proof. What earlier runs learnt about columns that fail is kept.
  Found run(std::int64_t nodes, PlanLimits& limits);

  /// After `plan`: one per piece.
  [[nodiscard]] std::vector<std::int64_t> offsets() const;

 private:
  using Index = int;
  static constexpr Index kNone = -1;

  /// A maximal run of columns [begin, end) at one height, lower than both its neighbours.
  struct Valley {
    Index begin = 0;
    Index end = 0;
    std::int64_t height = 0;
  };
  /// What a corner is filled with: a piece, or nothing up to `raise`.
  struct Candidate {
    Index piece = kNone;
    std::int64_t raise = 0;
    double score = 0;
  };
  struct Corner {
    Valley valley;
    Index column = 0;
    bool right = false;
  };
  struct Frame {
    Corner corner;
    bool blocked = false;  // a piece was no candidate because it is longer than the valley
    std::size_t begin = 0, next = 0, end = 0;  // among candidates_
    std::size_t changes = 0;
  };
  struct Change {
    Index piece = kNone;  // placed, or a raised column
    Index column = kNone;
    std::int64_t before = 0;
  };

  void compress(std::span<const Piece> pieces);
  void reset();

  [[nodiscard]] std::int64_t wall(Index column) const;
  [[nodiscard]] const std::vector<Index>& at(const Corner& corner) const;
  [[nodiscard]] bool fits(Index piece, const Corner& corner) const;
  [[nodiscard]] double score(Index piece);
  [[nodiscard]] int level_with(Index piece, Index seam);
  [[nodiscard]] double weigh(const Corner& corner, bool& dead);
  [[nodiscard]] std::int64_t raised(const Corner& corner) const;

  enum class Step { solved, failed, open };
  Step open();
  void list(Frame& frame);
  void widen();
  void try_next(Frame& frame);
  void place(Index piece, std::int64_t height, Index level);
  void raise(const Corner& corner, std::int64_t to, Index level);
  void undo(std::size_t changes);
  bool fail();

  [[nodiscard]] std::uint64_t* blame_of(Index level);
  void blame_column(Index column, std::uint64_t* blame) const;
  void blame_corner(const Corner& corner, bool blocked, std::uint64_t* blame);

  std::uint64_t random();

  std::int64_t capacity_;
  bool strict_;
  Index columns_ = 0;
  std::vector<Piece> pieces_;                 // by first, end and size, times in columns
  std::vector<std::size_t> input_;            // where each was in the input
  std::vector<std::vector<Index>> begin_at_;  // by column
  std::vector<std::vector<Index>> end_at_;    // by last column

  std::vector<std::int64_t> offset_;  // by piece; -1: not placed
  std::vector<std::int64_t> floor_;   // by column
  std::vector<std::int64_t> spare_;   // by column: bytes that may stay empty yet
  std::vector<Index> open_;           // by column: pieces not placed
  std::vector<Index> top_;            // by column: the piece placed last
  std::optional<Seams> seams_;
  std::vector<double> weight_;  // by column: how often it failed

  std::vector<Frame> frames_;  // the trials, one per level
  std::vector<Candidate> candidates_;
  std::vector<Change> changes_;
  // Sets of levels, as bits. Blame: whom a failure came from. Reason: of a raise, what it follows
  // from; a placement follows from nothing but the floors it lies on.
  std::size_t words_ = 0;
  std::vector<std::uint64_t> blame_;   // [level][word]
  std::vector<std::uint64_t> reason_;  // [level][word]
  std::vector<char> raised_level_;
  std::vector<std::vector<Index>> levels_at_;  // by column: the levels that changed it
  std::vector<std::uint64_t> failure_;         // of the last failure

  int runs_ = 0;
  std::uint64_t state_ = 0x9E3779B97F4A7C15U;
};

}  // namespace poolgrad::memory

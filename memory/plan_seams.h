// Plan seams: whether what begins and what ends at one time can make both sides level. Internal to
// memory/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "memory/plan_piece.h"

namespace poolgrad::memory {

/// A seam lies between two columns. Below a piece that crosses it both sides are equally high, so
/// where nothing may stay empty, some of the pieces that begin there less some of those that end
/// there must add up to what the one side is higher. Such sums are rare, and all of them are known:
/// of few pieces every sum is in a table.
class Seams {
 public:
  static constexpr int kMany = 99;    // more than are worth counting, or not known
  static constexpr int kNever = 100;  // no sum does
  static constexpr int kUnknown = -1;

  /// `pieces` in columns.
  Seams(std::span<const Piece> pieces, int columns);

  /// All pieces may be used again.
  void reset();
  void use(int piece);
  void give_back(int piece);

  /// The fewest unused pieces whose sizes, those that end at `seam` taken negatively, add up to
  /// `rise`; `without` is not among them.
  [[nodiscard]] int fewest(int seam, std::int64_t rise, int without);

  /// Divides each seam's pieces into groups that are level by themselves, as far as sums tell,
  /// where neither side may stay empty: `spare` is by column.
  void divide(std::span<const std::int64_t> spare);

  [[nodiscard]] bool divided(int seam) const {
    return !seams_[static_cast<std::size_t>(seam)].groups.empty();
  }

  /// The group of a piece at one of its seams; kUnknown where sums do not tell.
  [[nodiscard]] int group(int piece, bool at_end) const;

  /// Likewise, but kUnknown also where the group may be several.
  [[nodiscard]] int least_group(int piece, bool at_end) const;

 private:
  using Mask = std::uint32_t;
  struct Sum {
    std::int64_t value = 0;
    Mask pieces = 0;
  };
  struct Seam {
    std::vector<int> pieces;  // first those that begin
    std::size_t beginning = 0;
    Mask unused = 0;
    std::vector<Sum> low, high;  // of either half, by value; made when first asked for
    std::vector<int> groups;     // by piece; empty: not known
    Mask several = 0;            // pieces whose group may be several
  };
  struct Known {
    std::int64_t rise = 0;
    Mask unused = 0;
    int seam = -1;
    int fewest = 0;
  };

  static constexpr std::size_t kMost = 24;
  static constexpr std::size_t kKnown = std::size_t{1} << 12U;

  [[nodiscard]] bool exact(const Seam& seam) const { return seam.pieces.size() <= kMost; }
  [[nodiscard]] std::vector<Sum> sums(const Seam& seam, std::size_t begin, std::size_t end) const;
  void make_sums(Seam& seam) const;
  void divide(Seam& seam) const;
  [[nodiscard]] int search(Seam& seam, std::int64_t rise, Mask unused) const;
  [[nodiscard]] int few(const Seam& seam, std::int64_t rise, int without) const;
  [[nodiscard]] std::int64_t value(const Seam& seam, std::size_t place) const;

  std::span<const Piece> pieces_;
  std::vector<Seam> seams_;
  std::vector<int> begin_bit_, end_bit_;  // by piece: its place at either seam
  std::vector<char> used_;
  std::vector<Known> known_;  // by hash
};

}  // namespace poolgrad::memory

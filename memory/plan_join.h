// Plan join: pieces that seem to belong together, as one. Internal to memory/.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "memory/plan_search.h"

namespace poolgrad::memory {

/// Pieces joined into larger ones that fit together without a gap: one behind the other where sizes
/// are equal, one on top of the other where lives are equal, and the five that turn around one of
/// them. A packing of the joined pieces is one of the pieces; the reverse need not hold, so that
/// nothing is proved when they do not fit. Where bytes are scarce, equal sizes are seldom chance.
class Joined {
 public:
  enum class Daring {
    groups,   // only what sums of sizes at a seam leave no other choice for
    matches,  // also what has no other match
    stacks,   // pieces of equal lives also when nothing else speaks for it
  };

  Joined(std::span<const Piece> pieces, std::int64_t capacity);

  /// Joins until nothing is left to join. Which are stacked first is drawn from `seed`. Joints
  /// whose number, drawn likewise, is below `doubt` per cent are not made.
  void join(Daring daring, std::uint64_t seed, unsigned doubt);

  [[nodiscard]] const std::vector<Piece>& pieces() const { return pieces_; }

  /// The offsets of the original pieces, given those of pieces().
  [[nodiscard]] std::vector<std::int64_t> offsets(std::span<const std::int64_t> joined) const;

 private:
  using Index = std::size_t;
  using ByTime = std::map<int, std::vector<Index>>;
  class Groups;
  struct Part {
    Index node = 0;
    std::int64_t offset = 0;
  };

  bool join_rows();
  bool join_supported_stacks();
  bool join_groups();
  bool join_group_rows(const Groups& groups);
  bool join_group_stacks(const Groups& groups);
  bool join_wheels();
  bool join_wheel(Index hub, const ByTime& begin, const ByTime& end);
  bool join_one_stack(std::uint64_t& state);
  template <typename Fits>
  bool stack_where(const Fits& fits);
  void stack(Index a, Index b);
  void join(Piece whole, std::vector<Part> parts);
  void drop_joined();
  [[nodiscard]] bool doubted(Index a, Index b) const;

  std::int64_t capacity_;
  std::uint64_t seed_ = 0;
  unsigned doubt_ = 0;
  bool grouped_ = false;                  // join_groups() has nothing more to say
  std::size_t count_;                     // of the original pieces, the first nodes
  std::vector<std::vector<Part>> nodes_;  // what each lies above; none for an original
  std::vector<Piece> pieces_;
  std::vector<Index> node_of_;  // per piece
  std::vector<char> gone_;      // per piece: joined in this pass
};

}  // namespace poolgrad::memory

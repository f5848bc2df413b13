// Reports on a blueprint: who takes which bytes, and when. Text and rows; the fullest moment is
// peak.h, the picture timeline_svg.h.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "engine/compile.h"

namespace poolgrad {

/// What bytes are for.
enum class Role : std::uint8_t {
  parameter,
  moment,  // of the optimizer; any column that is none of the others
  input,
  gradient,
  activation,
  workspace,
  other,  // kept results, counters, settings, running statistics
};
inline constexpr std::size_t kRoles = 7;
[[nodiscard]] std::string to_string(Role role);

/// One slot of the arena. Steps are positions in Entry::steps, half-open.
struct ReportRow {
  std::string name;   // "0.weight"; of a planned slot, the op that makes it: "conv2d"
  std::string layer;  // "0"; empty outside layers
  Role role = Role::other;
  bool persistent = false;  // alive for the whole program
  std::size_t bytes = 0;    // as the plan rounds them
  std::size_t offset = 0;   // in the arena; 0 in a draft without offsets
  int first = 0, end = 0;
  int storage = -1;  // of the entry; -1: persistent
};

/// All slots of one entry: persistent ones by offset, then planned ones by first step. Tensors that
/// share bytes are one slot, named after who is first in it.
[[nodiscard]] std::vector<ReportRow> report(const Blueprint& blueprint, std::string_view entry);

/// Bytes by layer and role, largest first, persistent and planned ones apart. Sums count each slot
/// once, so planned sums can exceed the scratch.
struct ReportSum {
  std::string layer;
  Role role = Role::other;
  bool persistent = false;
  std::size_t bytes = 0;
  int slots = 0;
};
[[nodiscard]] std::vector<ReportSum> sums_by_layer(const std::vector<ReportRow>& rows);

/// The rows alive at the moment that proves the lower bound, largest first.
[[nodiscard]] std::vector<ReportRow> alive_at_peak(const Blueprint& blueprint,
                                                   std::string_view entry);

/// The plan of `entry` in a few lines: arena, lower bound, sum without reuse, the largest sums by
/// layer and role, and what is alive at the peak; at most `most` lines for each of the two.
[[nodiscard]] std::string describe(const Blueprint& blueprint, std::string_view entry,
                                   std::size_t most = 6);

/// The whole answer, in lines of at most 100 characters: all entries; for `entry` a table by layer
/// and role at the fullest moment, and who is alive then and why. At most `most` lines for each of
/// the two, the rest summed up; 0: all.
[[nodiscard]] std::string tables(const Blueprint& blueprint, std::string_view entry,
                                 std::size_t most = 12);

/// "512 B", "1.5 KiB", "41.5 MiB".
[[nodiscard]] std::string human_bytes(std::size_t bytes);

}  // namespace poolgrad

// The fullest moment of an entry: who is alive at the step that proves the lower bound, and why.
// Whole lives of slots are in report.h.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "engine/report.h"

namespace poolgrad {

/// What one layer has at the moment that proves the lower bound, its persistent bytes among it.
struct LayerBytes {
  std::string layer;                     // empty: outside layers
  std::array<std::size_t, kRoles> by{};  // by Role
  [[nodiscard]] std::size_t sum() const;
};

/// One row per layer, in the order of the network. Together they are the persistent bytes and the
/// lower bound of the entry's scratch.
[[nodiscard]] std::vector<LayerBytes> bytes_at_peak(const Blueprint& blueprint,
                                                    std::string_view entry);

/// A node as people know it. `step` is a position in Entry::steps; -1: none.
struct StepName {
  int step = -1;
  std::string op, layer;
  bool operator==(const StepName&) const = default;
};

/// Why bytes are alive at a moment.
enum class Why : std::uint8_t {
  made,    // this step writes them
  read,    // this step reads them, and nobody later
  needed,  // a later step reads or changes them
  phase,   // several members touch them in this phase, in whatever order
};
[[nodiscard]] std::string to_string(Why why);

/// Slots that are alive at the fullest moment and alike: parts of one tensor.
struct AliveGroup {
  Role role = Role::other;
  std::string op, layer;  // who wrote what is in them then
  Why why = Why::needed;
  StepName next;  // the next step that needs one of them; at the moment itself, that step
  int slots = 0;
  std::size_t bytes = 0;
};

/// The planned slots alive at the moment that proves the lower bound, parts of one tensor together,
/// largest first.
[[nodiscard]] std::vector<AliveGroup> alive_groups(const Blueprint& blueprint,
                                                   std::string_view entry);

/// The steps of the moment that proves the lower bound, one for each member with bytes of its own.
[[nodiscard]] std::vector<StepName> fullest_steps(const Blueprint& blueprint,
                                                  std::string_view entry);

/// The entry whose plan is largest: the one that makes the scratch as large as it is.
[[nodiscard]] const Entry& largest_entry(const Blueprint& blueprint);

}  // namespace poolgrad

// The picture of the arena over one run of an entry, as SVG. Numbers are report.h.
#pragma once

#include <string>
#include <string_view>

#include "engine/compile.h"

namespace poolgrad {

/// x: steps of the entry; y: bytes of the arena. Persistent columns are bands below, each planned
/// slot a rectangle from its first to its last step; the lower bound is a line, the step that
/// proves it a mark. 900 by 480 units, a file of its own (white ground, no scripts, no fonts).
/// Throws ArgumentError for an unknown entry.
[[nodiscard]] std::string timeline_svg(const Blueprint& blueprint, std::string_view entry);

}  // namespace poolgrad

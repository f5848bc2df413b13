// The tuner: which of an op's candidates a table says, and timing them where it says nothing.
#pragma once

#include "engine/op.h"
#include "engine/tuning.h"

namespace poolgrad {

/// The kernel of `op`, which has candidates, at `site`: what `tuning` has chosen. Where it lacks
/// the problem, or one of the candidates, all of them are timed and their line is set; without
/// `measure`, or past the table's limit of time, the rule decides. Of a choice that `site` does not
/// allow (no Winograd) the fastest other one takes the place.
///
/// Runs take turns on this thread, on warm buffers, and the median counts. The rule's choice stays
/// where none is 3 % faster. Throws FileError where the table chooses what has no kernel here.
[[nodiscard]] Kernel tuned(const OpDef& op, const Site& site, Tuning& tuning, bool measure);

}  // namespace poolgrad

// Modelled time of a node: a pure function of its op and shapes, the same on every machine. Only
// passes that must choose between nodes ask for it; nothing is measured here.
#pragma once

#include "engine/graph.h"

namespace poolgrad {

/// Microseconds on one core: the larger of its arithmetic (OpDef::flops) and of moving each operand
/// once, and a little for the call. 0 for views. Right in proportion, not to the microsecond.
[[nodiscard]] double modelled_us(const Graph& graph, const Node& node);

}  // namespace poolgrad

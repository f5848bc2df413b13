// Modelled time of a node: a pure function of its op and shapes, the same on every machine. Only
// passes that must choose between nodes ask for it; nothing is measured here.
#pragma once

#include "engine/graph.h"

namespace poolgrad {

/// What a node does, whatever it takes.
struct Work {
  double flops = 0.0;  // OpDef::flops
  double bytes = 0.0;  // each operand once; of a lent table what is picked out of it
};
[[nodiscard]] Work work_of(const Graph& graph, const Node& node);

/// Microseconds on one core: the larger of its arithmetic (OpDef::flops) and of moving each operand
/// once, and a little for the call. 0 for views. Right in proportion, not to the microsecond; an
/// upper estimate for tiles, which do fewer operations than the plain sum.
[[nodiscard]] double modelled_us(const Graph& graph, const Node& node);

}  // namespace poolgrad

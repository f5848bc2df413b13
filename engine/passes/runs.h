// Runs: which nodes are cut together, into how many parts. What split() writes is decided here.
#pragma once

#include "engine/passes/passes.h"

namespace poolgrad::passes {

struct CutNode {
  int node = 0;
  Cut cut{};
};

/// Nodes that are done part by part, or one node that is done whole (parts == 1).
struct Run {
  std::vector<CutNode> nodes;
  std::int64_t rows = 0;  // of axis 0, shared out among the parts
  int parts = 1;          // a multiple of the members
};

/// Every node of the graph once, in an order that respects predecessors(): a later run may read
/// what an earlier one made, and within a run parts only read rows of their own or what was made
/// before it.
[[nodiscard]] std::vector<Run> find_runs(const Graph& graph, const Split& settings);

/// split() with runs that are found already: every node of theirs once, others not at all.
void split(Graph& graph, std::span<const Run> runs, int members);

}  // namespace poolgrad::passes

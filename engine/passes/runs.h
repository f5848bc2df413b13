// Runs: which nodes are cut together, into how many parts. What split() writes is decided here.
#pragma once

#include "engine/passes/passes.h"

namespace poolgrad::passes {

constexpr std::int64_t kWorthCutting = 64 << 10;  // bytes that a node touches
constexpr std::int64_t kCache = 1 << 20;          // bytes that stay in a core's own cache

struct CutNode {
  int node = 0;
  Cut cut{};
  bool everywhere = false;  // every member makes what comes out whole for itself
};

/// Nodes that are done part by part, or one node that is done whole (parts == 1).
struct Run {
  std::vector<CutNode> nodes;
  std::int64_t length = 0;  // of the axis that is shared out among the parts
  int parts = 1;            // a multiple of the members
};

/// Every node of the graph once, in an order that respects predecessors(): a later run may read
/// what an earlier one made, and within a run parts only read rows or columns of their own or what
/// was made before it.
[[nodiscard]] std::vector<Run> find_runs(const Graph& graph, const Split& settings);

/// Writes the runs out part by part: the whole run for some rows (or features), then for the next,
/// so that what lies between its nodes dies early and no two members meet. Sums over rows are added
/// to in place, one per member, and the members' sums are added at the end. A run of one part is
/// done by one member alone, or by each for itself.
void split(Graph& graph, std::span<const Run> runs, int members);

/// What the op offers at this node, best first; nothing where it can only be done whole.
[[nodiscard]] std::vector<Cut> cuts_of(const Graph& graph, const Node& node);

/// How many rows or columns there are to share out; 0 where the share is another, or the axis
/// missing.
[[nodiscard]] std::int64_t length_of(const Spec& spec, Share share);

/// visit(tensor, share) for all inputs, then all outputs.
template <typename F>
void each_operand(const Node& node, const Cut& cut, const F& visit) {
  for (std::size_t i = 0; i < node.inputs.size(); ++i) visit(node.inputs[i], cut.input(i));
  for (std::size_t i = 0; i < node.outputs.size(); ++i) visit(node.outputs[i], cut.output(i));
}

}  // namespace poolgrad::passes

// Fusing asks the ops, so the pass knows none.
#include "engine/passes/passes.h"

namespace poolgrad::passes {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

/// Rewrites the list node by node. `merge(maker, node)` is called where `node` has one input, which
/// `maker` makes for it alone; it answers whether `maker` has become both.
template <typename Merge>
void merge_neighbours(Graph& graph, const Merge& merge) {
  std::vector<int> reads(row(graph.tensors.size())), producer(row(graph.tensors.size()), -1);
  for (const Node& node : graph.nodes) {
    for (const int id : node.inputs) ++reads[row(id)];
  }
  std::vector<Node> merged;
  for (Node& node : graph.nodes) {
    const int between = node.inputs.size() == 1 ? node.inputs[0] : -1;
    const int maker = between < 0 ? -1 : producer[row(between)];
    const bool alone = maker >= 0 && reads[row(between)] == 1 &&
                       !graph.tensors.persistent(between) && merged[row(maker)].outputs.size() == 1;
    if (alone && merge(merged[row(maker)], node)) {
      for (const int id : merged[row(maker)].outputs) producer[row(id)] = maker;
      continue;
    }
    for (const int id : node.outputs) producer[row(id)] = static_cast<int>(merged.size());
    merged.push_back(std::move(node));
  }
  graph.nodes = std::move(merged);
}

bool absorb_input(Node& previous, const Node& self) {
  if (self.op->absorb_input == nullptr || previous.inputs.size() != 1) return false;
  const auto both = self.op->absorb_input(self, previous);
  if (both) previous = {self.op, *both, previous.inputs, self.outputs};
  return both.has_value();
}

bool absorb(Node& self, const Node& next) {
  if (self.op->absorb == nullptr) return false;
  const auto both = self.op->absorb(self, next);
  if (both) self = {self.op, *both, self.inputs, next.outputs};
  return both.has_value();
}

}  // namespace

void fuse(Graph& graph) {
  merge_neighbours(graph, absorb_input);
  merge_neighbours(graph, absorb);
}

}  // namespace poolgrad::passes

// Fusing asks the op, so the pass knows none.
#include "engine/passes/passes.h"

namespace poolgrad::passes {

void fuse(Graph& graph) {
  const auto row = [](int id) { return static_cast<std::size_t>(id); };
  std::vector<int> reads(row(graph.tensors.size())), producer(row(graph.tensors.size()), -1);
  for (const Node& node : graph.nodes) {
    for (const int id : node.inputs) ++reads[row(id)];
  }
  std::vector<Node> fused;
  for (Node& node : graph.nodes) {
    const int between = node.inputs.size() == 1 ? node.inputs[0] : -1;
    const int from = between < 0 ? -1 : producer[row(between)];
    if (from >= 0 && reads[row(between)] == 1 && !graph.tensors.persistent(between)) {
      Node& earlier = fused[row(from)];
      const auto both = earlier.op->absorb == nullptr || earlier.outputs.size() != 1
                            ? std::nullopt
                            : earlier.op->absorb(earlier, node);
      if (both) {
        earlier.attributes = *both;
        earlier.outputs = node.outputs;
        producer[row(node.outputs[0])] = from;
        continue;
      }
    }
    for (const int id : node.outputs) producer[row(id)] = static_cast<int>(fused.size());
    fused.push_back(std::move(node));
  }
  graph.nodes = std::move(fused);
}

}  // namespace poolgrad::passes

// Tensors that the caller sees must not share bytes with others that it sees.
#include <algorithm>
#include <utility>

#include "engine/liveness.h"
#include "engine/ops.h"
#include "engine/passes/passes.h"

namespace poolgrad::passes {

void copy_kept_views(Graph& graph) {
  const auto row = [](int id) { return static_cast<std::size_t>(id); };
  const Storages storages = assign_storages(graph, false);
  std::vector<int> own(storages.all.size());  // tensors with bytes of their own
  const auto owners = [&](int id) -> int& { return own[row(storages.of[row(id)])]; };
  std::vector<int> reads(row(graph.tensors.size()));  // tensor -> what nodes read in its place
  for (int id = 0; id < graph.tensors.size(); ++id) {
    reads[row(id)] = id;
    if (graph.tensors.persistent(id)) ++owners(id);
  }
  for (Node node : std::exchange(graph.nodes, {})) {
    for (int& id : node.inputs) id = reads[row(id)];
    const std::vector<int> outputs = node.outputs;
    const int shared = node.op->view != nullptr ? 1 : node.op->updates;
    std::vector<std::pair<int, int>> copies;
    for (std::size_t k = 0; k < std::min(outputs.size(), row(shared)); ++k) {
      const int id = outputs[k];
      if (graph.tensors.column[row(id)] != "kept" || owners(id) == 1) continue;
      --owners(id);
      node.outputs[k] = graph.tensors.add(graph.tensors.spec[row(id)]);
      graph.tensors.layer[row(node.outputs[k])] = graph.tensors.layer[row(id)];
      reads[row(id)] = node.outputs[k];
      copies.emplace_back(node.outputs[k], id);
    }
    graph.nodes.push_back(std::move(node));
    for (const auto& [from, to] : copies) {
      (void)duplicate(graph.handle(from));
      graph.nodes.back().outputs[0] = to;
    }
  }
}

}  // namespace poolgrad::passes

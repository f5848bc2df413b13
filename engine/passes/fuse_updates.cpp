// Asks the update how, and the maker of its gradient whether it can.
#include "engine/passes/passes.h"

namespace poolgrad::passes {

void fuse_updates(Graph& graph) {
  const auto row = [](int id) { return static_cast<std::size_t>(id); };
  std::vector<int> reads(row(graph.tensors.size())), maker(row(graph.tensors.size()), -1);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const int id : graph.nodes[i].inputs) ++reads[row(id)];
    for (const int id : graph.nodes[i].outputs) maker[row(id)] = static_cast<int>(i);
  }
  std::vector<std::vector<Node>> written(graph.nodes.size());  // instead of each node
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& update = graph.nodes[i];
    written[i] = {update};
    if (update.op->with_maker == nullptr) continue;
    const int gradient = update.inputs[row(update.op->gradient)];
    const int at = maker[row(gradient)];
    if (at < 0 || reads[row(gradient)] != 1 || graph.tensors.persistent(gradient)) continue;
    const Node& made_by = graph.nodes[row(at)];
    if (made_by.op->onto == nullptr || made_by.outputs.size() != 1) continue;
    std::vector<Node> both = update.op->with_maker(update, made_by);
    if (both.empty()) continue;
    written[i] = std::move(both);
    written[row(at)].clear();
  }
  graph.nodes.clear();
  for (std::vector<Node>& nodes : written) {
    for (Node& node : nodes) graph.nodes.push_back(std::move(node));
  }
}

}  // namespace poolgrad::passes

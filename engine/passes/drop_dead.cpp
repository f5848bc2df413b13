// What no root needs is not computed.
#include <algorithm>

#include "engine/passes/passes.h"

namespace poolgrad::passes {

void drop_dead(Graph& graph, std::span<const int> roots) {
  std::vector<bool> needed(static_cast<std::size_t>(graph.tensors.size()));
  const auto need = [&](int id) { needed[static_cast<std::size_t>(id)] = true; };
  const auto is_needed = [&](int id) { return needed[static_cast<std::size_t>(id)]; };
  std::ranges::for_each(roots, need);
  std::vector<Node> kept;
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    if (std::ranges::none_of(node->outputs, is_needed)) continue;
    std::ranges::for_each(node->inputs, need);
    kept.push_back(std::move(*node));
  }
  std::ranges::reverse(kept);
  graph.nodes = std::move(kept);
}

}  // namespace poolgrad::passes

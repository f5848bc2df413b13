// List scheduling over predecessors(): updates first, else the order as it was.
#include <functional>
#include <queue>

#include "engine/liveness.h"
#include "engine/passes/passes.h"

namespace poolgrad::passes {

void schedule(Graph& graph) {
  const auto row = [](int id) { return static_cast<std::size_t>(id); };
  const auto before = predecessors(graph);
  std::vector<int> waits_for(graph.nodes.size());
  std::vector<std::vector<int>> after(graph.nodes.size());
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const int earlier : before[i]) {
      after[row(earlier)].push_back(static_cast<int>(i));
      ++waits_for[i];
    }
  }
  std::priority_queue<int, std::vector<int>, std::greater<>> updates,
      others;  // ready, lowest first
  const auto ready = [&](std::size_t i) {
    (graph.nodes[i].op->updates > 0 ? updates : others).push(static_cast<int>(i));
  };
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (waits_for[i] == 0) ready(i);
  }
  std::vector<Node> ordered;
  while (!updates.empty() || !others.empty()) {
    auto& queue = updates.empty() ? others : updates;
    const std::size_t next = row(queue.top());
    queue.pop();
    for (const int later : after[next]) {
      if (--waits_for[row(later)] == 0) ready(row(later));
    }
    ordered.push_back(std::move(graph.nodes[next]));
  }
  // Nodes that wait for each other have no order: they stay where they were and check_order() says
  // why.
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (waits_for[i] > 0) ordered.push_back(std::move(graph.nodes[i]));
  }
  graph.nodes = std::move(ordered);
}

}  // namespace poolgrad::passes

// Two orders: of the nodes of a graph, by list scheduling (updates first, else as they were); and
// of what split() has written, by searching for fewer bytes (order.h).
#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>

#include "engine/liveness.h"
#include "engine/passes/order.h"
#include "engine/passes/passes.h"

namespace poolgrad::passes {
namespace {

constexpr int kMostTrials = 10'000;  // of nodes: some ten milliseconds

std::size_t row(int id) { return static_cast<std::size_t>(id); }

/// As liveness.cpp counts: storages from their first to their last user, an output in an input's
/// place where that is allowed and the input is not needed any more.
class Counted {
 public:
  explicit Counted(const Graph& graph)
      : graph_(graph), storages_(assign_storages(graph, /*in_place=*/false)) {}

  [[nodiscard]] Jobs jobs(std::span<const std::size_t> workspace_bytes, bool in_place) const {
    Jobs result{std::vector<Job>(graph_.nodes.size()), {}};
    for (int s = 0; s < static_cast<int>(storages_.all.size()); ++s)
      result.blocks.push_back({planned_bytes(s)});
    const auto before = predecessors(graph_);
    for (int i = 0; i < static_cast<int>(graph_.nodes.size()); ++i) {
      const Node& node = graph_.nodes[row(i)];
      Job& job = result.all[row(i)];
      job.before = before[row(i)];
      job.inside = memory::aligned(workspace_bytes[row(i)]);
      if (in_place) note_in_place(node, job);
      if (node.op->view != nullptr) continue;
      for (const auto* ids : {&node.inputs, &node.outputs}) {
        for (const int id : *ids) {
          std::vector<int>& users = result.blocks[row(storage(id))].users;
          if (users.empty() || users.back() != i) users.push_back(i);
        }
      }
    }
    return result;
  }

 private:
  [[nodiscard]] int storage(int id) const { return storages_.of[row(id)]; }
  [[nodiscard]] std::size_t planned_bytes(int s) const {
    const Storage& storage = storages_.all[row(s)];
    return storage.persistent >= 0 ? 0 : memory::aligned(storage.bytes);
  }
  /// Whether the tensor is all there is in a storage that is planned.
  [[nodiscard]] bool alone(int id) const {
    const Storage& storage = storages_.all[row(this->storage(id))];
    return storage.persistent < 0 && storage.bytes == graph_.tensors.spec[row(id)].bytes();
  }
  void note_in_place(const Node& node, Job& job) const {
    if (node.op->overwrites < 0) return;
    const int in = node.inputs[row(node.op->overwrites)], out = node.outputs[0];
    const auto lies_there = [&](int id) { return storage(id) == storage(in); };
    if (alone(in) && alone(out) && !lies_there(out) &&
        planned_bytes(storage(in)) == planned_bytes(storage(out)) &&
        std::ranges::count_if(node.inputs, lies_there) == 1)
      job.gives = storage(in);
  }

  const Graph& graph_;
  Storages storages_;
};

}  // namespace

void schedule(Graph& graph) {
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

std::vector<int> lower_peak(const Graph& graph, std::span<const std::size_t> workspace_bytes,
                            bool in_place) {
  std::vector<int> order(graph.nodes.size());
  std::iota(order.begin(), order.end(), 0);
  const Jobs jobs = Counted(graph).jobs(workspace_bytes, in_place);
  Order found = lower_peak(jobs, order, kMostTrials);
  return found.jobs == order ? std::vector<int>{} : std::move(found.jobs);
}

}  // namespace poolgrad::passes

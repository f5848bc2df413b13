// What ReLU made is kept as bits where only ReLU's gradient asks for it in the backward pass.
#include <algorithm>
#include <utility>

#include "engine/liveness.h"
#include "engine/ops/relu.h"
#include "engine/passes/passes.h"
#include "engine/passes/runs.h"

namespace poolgrad::passes {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

class KeepSigns {
 public:
  explicit KeepSigns(Graph& graph)
      : graph_(graph),
        storages_(assign_storages(graph, /*in_place=*/false)),
        readers_(storages_.all.size()),
        signs_(row(graph.tensors.size()), -1) {
    for (const Node& node : graph.nodes) {
      if (!in_backward(node) || node.op->view != nullptr) continue;
      for (const int id : node.inputs) ++readers_[row(storages_.of[row(id)])];
    }
  }

  void run() {
    std::vector<bool> wanted(row(graph_.tensors.size()));
    for (const Node& node : graph_.nodes) {
      if (node.op == &kReluGrad && in_backward(node) && asks_alone(node.inputs[0]))
        wanted[row(node.inputs[0])] = true;
    }
    for (Node& node : std::exchange(graph_.nodes, {})) {
      if (node.op == &kReluGrad && signs_[row(node.inputs[0])] >= 0) {
        node.op = &kReluGradBySigns;
        node.inputs[0] = signs_[row(node.inputs[0])];
      }
      const bool forward = !in_backward(node);
      const std::vector<int> made = node.outputs;
      graph_.nodes.push_back(std::move(node));
      for (const int id : made) {
        if (forward && wanted[row(id)]) note_signs(id);
      }
    }
  }

 private:
  /// Also where what it makes is a weight, on top of which its gradient is added up.
  [[nodiscard]] bool in_backward(const Node& node) const {
    const auto marked = [&](int id) { return graph_.tensors.backward[row(id)] != 0; };
    return std::ranges::any_of(node.outputs, marked) || std::ranges::any_of(node.inputs, marked);
  }
  [[nodiscard]] bool asks_alone(int y) const {
    const int s = storages_.of[row(y)];
    return storages_.all[row(s)].persistent < 0 && readers_[row(s)] == 1 &&
           static_cast<std::int64_t>(graph_.tensors.spec[row(y)].bytes()) >= kWorthCutting;
  }
  void note_signs(int y) {
    const int signs = relu_signs(graph_.handle(y)).id;
    graph_.tensors.layer[row(signs)] = graph_.tensors.layer[row(y)];
    signs_[row(y)] = signs;
  }

  Graph& graph_;
  Storages storages_;
  std::vector<int> readers_;  // storage -> how often it is read in the backward pass
  std::vector<int> signs_;    // tensor -> its signs, or -1
};

}  // namespace

void keep_signs(Graph& graph) { KeepSigns(graph).run(); }

}  // namespace poolgrad::passes

// What is cheap to make is made twice rather than kept from the forward to the backward pass. Which
// op is cheap is said in OpDef::recompute.
#include <map>

#include "engine/passes/passes.h"

namespace poolgrad::passes {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

class Recompute {
 public:
  explicit Recompute(Graph& graph)
      : graph_(graph), nodes_(graph.nodes), maker_(row(graph.tensors.size()), -1) {}

  void run() {
    for (int i = 0; i < static_cast<int>(nodes_.size()); ++i) note_cheap(i);
    graph_.nodes.clear();
    for (Node node : nodes_) {
      if (in_backward(node)) {
        for (int& id : node.inputs) id = made_again(id);
      }
      graph_.nodes.push_back(std::move(node));
    }
  }

 private:
  [[nodiscard]] bool in_backward(const Node& node) const {
    return !node.outputs.empty() && graph_.tensors.backward[row(node.outputs[0])] != 0;
  }
  void note_cheap(int i) {
    const Node& node = nodes_[row(i)];
    if (!node.op->recompute || in_backward(node)) return;
    for (const int id : node.outputs) {
      if (!graph_.tensors.persistent(id)) maker_[row(id)] = i;
    }
  }
  /// The tensor that the backward pass reads instead: made just before its first reader.
  int made_again(int id) {
    if (row(id) >= maker_.size() || maker_[row(id)] < 0) return id;
    if (!again_.contains(id)) {
      const Node& first = nodes_[row(maker_[row(id)])];
      Node second = first;
      for (int& input : second.inputs) input = made_again(input);
      for (int& output : second.outputs) {
        const int fresh = graph_.tensors.add(graph_.tensors.spec[row(output)]);
        graph_.tensors.layer[row(fresh)] = graph_.tensors.layer[row(output)];
        graph_.tensors.backward[row(fresh)] = 1;
        again_[output] = fresh;
        output = fresh;
      }
      graph_.nodes.push_back(std::move(second));
    }
    return again_[id];
  }

  Graph& graph_;
  const std::vector<Node> nodes_;  // as they were
  std::vector<int> maker_;         // tensor -> the cheap node that makes it, or -1
  std::map<int, int> again_;       // tensor -> the same values for the backward pass
};

}  // namespace

void recompute(Graph& graph) { Recompute(graph).run(); }

}  // namespace poolgrad::passes

// Walks the nodes in order, moving images into the layout that each wants and telling infer() anew.
#include <map>
#include <utility>

#include "engine/ops.h"
#include "engine/passes/passes.h"

namespace poolgrad::passes {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

class Layouts {
 public:
  Layouts(Graph& graph, bool propagate) : graph_(graph), propagate_(propagate) {}

  void run() {
    const std::vector<Node> nodes = std::exchange(graph_.nodes, {});
    for (const Node& node : nodes) place(node);
  }

 private:
  void place(Node node) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      if (graph_.tensors.spec[row(node.inputs[i])].shape.rank() == 4)
        node.inputs[i] = in_layout(node.inputs[i], wanted(node, i));
    }
    const auto inputs = graph_.specs(node.inputs);
    const std::vector<Spec> outputs = infer(*node.op, {inputs, {}, node.attributes}, node.floats);
    std::vector<std::pair<int, int>> back;  // made in another layout, and where it must end up
    for (std::size_t k = 0; k < node.outputs.size(); ++k) {
      const int id = node.outputs[k];
      if (outputs[k].layout != Layout::row_major &&
          (graph_.tensors.persistent(id) || !propagate_)) {
        node.outputs[k] = stand_in(id, outputs[k]);
        back.emplace_back(node.outputs[k], id);
        if (propagate_) moved_[{id, outputs[k].layout}] = node.outputs[k];
      } else {
        graph_.tensors.spec[row(id)] = outputs[k];
      }
    }
    graph_.nodes.push_back(std::move(node));
    for (const auto& [from, to] : back) {
      (void)reorder(graph_.handle(from), Layout::row_major);
      graph_.nodes.back().outputs[0] = to;
    }
  }

  [[nodiscard]] Layout wanted(const Node& node, std::size_t i) const {
    if (i < node.op->wants.size() && node.op->wants[i]) return *node.op->wants[i];
    if (!propagate_) return Layout::row_major;
    return graph_.tensors.spec[row(node.inputs[i == 0 ? i : 0])].layout;
  }

  int in_layout(int id, Layout layout) {
    if (graph_.tensors.spec[row(id)].layout == layout) return id;
    const auto found = moved_.find({id, layout});
    if (found != moved_.end()) return found->second;
    graph_.current_layer = graph_.tensors.layer[row(id)];
    graph_.in_backward = graph_.tensors.backward[row(id)] != 0;
    const int moved = reorder(graph_.handle(id), layout).id;
    graph_.current_layer.clear();
    graph_.in_backward = false;
    if (propagate_) moved_[{id, layout}] = moved;
    return moved;
  }

  /// A tensor like `id` but planned, and in another layout.
  int stand_in(int id, const Spec& spec) {
    const int fresh = graph_.tensors.add(spec);
    graph_.tensors.name[row(fresh)] = graph_.tensors.name[row(id)];
    graph_.tensors.layer[row(fresh)] = graph_.tensors.layer[row(id)];
    graph_.tensors.backward[row(fresh)] = graph_.tensors.backward[row(id)];
    return fresh;
  }

  Graph& graph_;
  bool propagate_;
  std::map<std::pair<int, Layout>, int> moved_;  // tensor and layout -> the copy that has it
};

}  // namespace

void layout(Graph& graph, bool propagate) { Layouts(graph, propagate).run(); }

}  // namespace poolgrad::passes

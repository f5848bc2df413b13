// Reverse order over the nodes that stand between what is wanted and the loss.
#include "engine/autograd.h"

#include <algorithm>
#include <utility>

#include "engine/ops.h"

namespace poolgrad {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

/// Which tensors change when something wanted changes.
std::vector<bool> moving(const Graph& graph, std::span<const Tensor> wanted) {
  std::vector<bool> moves(row(graph.tensors.size()));
  for (const Tensor& tensor : wanted) moves[row(tensor.id)] = true;
  for (const Node& node : graph.nodes) {
    if (std::ranges::none_of(node.inputs, [&](int id) { return moves[row(id)]; })) continue;
    for (const int id : node.outputs) moves[row(id)] = true;
  }
  return moves;
}

/// What is built while it lives belongs to the backward pass of `layer`.
class Building {
 public:
  Building(Graph& graph, const std::string& layer)
      : graph_(graph), layer_(std::exchange(graph.current_layer, layer)) {
    graph.in_backward = true;
  }
  ~Building() {
    graph_.in_backward = false;
    graph_.current_layer = layer_;
  }
  Building(const Building&) = delete;
  Building& operator=(const Building&) = delete;

 private:
  Graph& graph_;
  std::string layer_;
};

}  // namespace

std::vector<Tensor> differentiate(Tensor loss, std::span<const Tensor> wanted, Tensor seed) {
  if (loss.shape().rank() != 0)
    throw ShapeError(text("differentiate: loss ", loss.shape(), " is not a scalar"));
  Graph& graph = *loss.graph;
  const std::vector<bool> moves = moving(graph, wanted);
  std::vector<Tensor> grads(row(graph.tensors.size()));
  grads[row(loss.id)] = seed;
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    const Node node = graph.nodes[i];  // a copy: the list grows below
    std::vector<Tensor> dy;
    for (const int id : node.outputs) dy.push_back(grads[row(id)]);
    if (std::ranges::none_of(dy, &Tensor::operator bool) ||
        std::ranges::none_of(node.inputs, [&](int id) { return moves[row(id)]; }))
      continue;
    if (node.op->backward == nullptr)
      throw ShapeError(text(node.op->name, ": no gradient is defined, but ",
                            graph.describe(node.inputs[0]), " needs one"));
    const Building building(graph, graph.tensors.layer[row(node.outputs[0])]);
    const auto inputs = graph.handles(node.inputs), outputs = graph.handles(node.outputs);
    const std::vector<Tensor> dx = node.op->backward({inputs, outputs, dy, node.attributes});
    for (std::size_t k = 0; k < dx.size(); ++k) {
      if (!dx[k] || !moves[row(node.inputs[k])]) continue;
      Tensor& sum = grads[row(node.inputs[k])];
      sum = sum ? add(sum, dx[k]) : dx[k];
    }
  }
  std::vector<Tensor> result;
  for (const Tensor& tensor : wanted) result.push_back(grads[row(tensor.id)]);
  return result;
}

}  // namespace poolgrad

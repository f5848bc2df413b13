// What a layer is: a function that appends its nodes. The layers themselves are linear.h, conv2d.h,
// ...
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "engine/graph.h"

namespace poolgrad::layers {

/// x -> y. A layer is settings only: what it learns belongs to the graph, under the layer's name,
/// so that one layer can be called on several graphs, and twice on one (for training and for use).
using Layer = std::function<Tensor(Graph& graph, Tensor x, bool training)>;

/// The parameter NAME of the current layer: the one the graph has, or a new one. Throws ShapeError
/// when the graph has it in another shape.
Tensor parameter(Graph& graph, const Shape& shape, const Init& init, std::string_view name);

/// Likewise what training gathers beside parameters, as running means: column "statistics".
Tensor statistic(Graph& graph, const Spec& spec, const Init& init, std::string_view name);

/// `layer` under a name inside the current one.
Tensor named(std::string_view name, const Layer& layer, Graph& graph, Tensor x, bool training);

/// One layer after the other. The i-th one is named "i" inside this one, as in torch.nn.Sequential:
/// its weight is "0.weight", that of a Sequential in it "0.2.weight".
class Sequential {
 public:
  Sequential(std::initializer_list<Layer> layers) : layers_(layers) {}
  explicit Sequential(std::vector<Layer> layers) : layers_(std::move(layers)) {}

  Tensor operator()(Graph& graph, Tensor x, bool training) const;

  [[nodiscard]] std::size_t size() const { return layers_.size(); }

 private:
  std::vector<Layer> layers_;
};

}  // namespace poolgrad::layers

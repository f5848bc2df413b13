// Finding a layer's parameters again, and layers in a row.
#include "layers/layer.h"

namespace poolgrad::layers {

Tensor parameter(Graph& graph, const Shape& shape, const Init& init, std::string_view name) {
  const std::string path =
      graph.current_layer.empty() ? std::string(name) : text(graph.current_layer, ".", name);
  for (const Tensor& known : graph.column("parameters")) {
    if (graph.name(known.id) != path) continue;
    if (known.shape() == shape) return known;
    throw ShapeError(text("layer: parameter '", path, "' is ", known.shape(),
                          " in this graph, not ", shape, "; give the layers different names"));
  }
  return graph.parameter(shape, init, name);
}

Tensor Sequential::operator()(Graph& graph, Tensor x, bool training) const {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Graph::Layer scope(graph, std::to_string(i));
    x = layers_[i](graph, x, training);
  }
  return x;
}

}  // namespace poolgrad::layers

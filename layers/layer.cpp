// Finding what a layer has learnt again, and layers in a row.
#include "layers/layer.h"

namespace poolgrad::layers {

namespace {

std::string path_of(const Graph& graph, std::string_view name) {
  return graph.current_layer.empty() ? std::string(name) : text(graph.current_layer, ".", name);
}

/// What `column` has under this name, or nothing.
Tensor find(Graph& graph, std::string_view column, const Spec& spec, const std::string& path) {
  for (const Tensor& known : graph.column(column)) {
    if (graph.name(known.id) != path) continue;
    if (known.spec() == spec) return known;
    throw ShapeError(text("layer: ", column == "parameters" ? "parameter" : "statistic", " '", path,
                          "' is ", known.shape(), " in this graph, not ", spec.shape,
                          "; give the layers different names"));
  }
  return {};
}

}  // namespace

Tensor parameter(Graph& graph, const Shape& shape, const Init& init, std::string_view name) {
  const Tensor known = find(graph, "parameters", {shape}, path_of(graph, name));
  return known ? known : graph.parameter(shape, init, name);
}

Tensor statistic(Graph& graph, const Spec& spec, const Init& init, std::string_view name) {
  const std::string path = path_of(graph, name);
  const Tensor known = find(graph, "statistics", spec, path);
  return known ? known : graph.state(spec, init, path, "statistics");
}

Tensor named(std::string_view name, const Layer& layer, Graph& graph, Tensor x, bool training) {
  const Graph::Layer scope(graph, name);
  return layer(graph, x, training);
}

Tensor Sequential::operator()(Graph& graph, Tensor x, bool training) const {
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    x = named(std::to_string(i), layers_[i], graph, x, training);
  }
  return x;
}

}  // namespace poolgrad::layers

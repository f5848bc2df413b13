// What poolgrad.nn's modules are made of: the C++ layers as functions. The tree is Python's.
#include <memory>

#include "layers/batch_norm.h"
#include "layers/conv2d.h"
#include "layers/linear.h"
#include "python/bindings/handle.h"

namespace poolgrad::python {
namespace {

using Pair = std::array<std::int32_t, 2>;

Tensor conv2d_layer(Tensor x, std::int64_t inputs, std::int64_t outputs, const Pair& kernel,
                    const Pair& stride, const Pair& padding, const Pair& dilation,
                    std::int32_t groups, bool bias, std::uint64_t seed) {
  const layers::Conv2d layer{
      inputs,
      outputs,
      {kernel[0], kernel[1]},
      {.stride = stride, .padding = padding, .dilation = dilation, .groups = groups},
      seed,
      bias};
  return layer(*x.graph, x, true);
}

Tensor linear_layer(Tensor x, std::int64_t inputs, std::int64_t outputs, bool bias,
                    std::uint64_t seed) {
  return layers::Linear{inputs, outputs, seed, bias}(*x.graph, x, true);
}

Tensor batch_norm2d_layer(Tensor x, std::int64_t features, double eps, double momentum,
                          bool training) {
  return layers::BatchNorm2d{features, {eps, momentum}}(*x.graph, x, training);
}

/// `with layer_of(x, "0"):`
struct Scope {
  Graph* graph;
  std::string name;
  std::unique_ptr<Graph::Layer> open{};
};

}  // namespace

void bind_layers(nb::module_& module) {
  nb::class_<Scope>(module, "Layer", "with this: what is made inside belongs to the layer.")
      .def("__enter__",
           [](Scope& scope) {
             scope.open = std::make_unique<Graph::Layer>(*scope.graph, scope.name);
           })
      .def(
          "__exit__", [](Scope& scope, nb::args) { scope.open.reset(); }, "error"_a);
  module.def(
      "layer_of",
      [](Tensor x, std::string name) {
        return Scope{x.graph, std::move(name)};
      },
      "x"_a, "name"_a, "A layer of x's graph.");
  module.def("linear_layer", linear_layer, "x"_a, "inputs"_a, "outputs"_a, "bias"_a, "seed"_a);
  module.def("conv2d_layer", conv2d_layer, "x"_a, "inputs"_a, "outputs"_a, "kernel"_a, "stride"_a,
             "padding"_a, "dilation"_a, "groups"_a, "bias"_a, "seed"_a);
  module.def("batch_norm2d_layer", batch_norm2d_layer, "x"_a, "features"_a, "eps"_a, "momentum"_a,
             "training"_a);
}

}  // namespace poolgrad::python

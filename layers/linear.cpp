// Linear.
#include "layers/linear.h"

#include "engine/ops.h"

namespace poolgrad::layers {

Tensor Linear::operator()(Graph& graph, Tensor x, bool) const {
  const Init init = Init::kaiming_uniform(inputs, seed);
  const Tensor weight = parameter(graph, {outputs, inputs}, init, "weight");
  return linear(x, weight, bias ? parameter(graph, {outputs}, init, "bias") : Tensor{});
}

}  // namespace poolgrad::layers

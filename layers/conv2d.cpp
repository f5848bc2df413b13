// Conv2d.
#include "layers/conv2d.h"

namespace poolgrad::layers {

Tensor Conv2d::operator()(Graph& graph, Tensor x, bool) const {
  const std::int64_t groups = settings.groups;
  if (groups < 1 || inputs % groups != 0 || outputs % groups != 0) {
    throw ShapeError(text("conv2d: ", inputs, " inputs and ", outputs, " outputs in ", groups,
                          " groups; both must be multiples of the groups"));
  }
  const std::int64_t fan_in = inputs / groups * kernel[0] * kernel[1];
  const Init init = Init::kaiming_uniform(fan_in, seed);
  Init first = init;
  first.value *= gain;
  const Tensor weight =
      parameter(graph, {outputs, inputs / groups, kernel[0], kernel[1]}, first, "weight");
  return conv2d(x, weight, bias ? parameter(graph, {outputs}, init, "bias") : Tensor{}, settings);
}

}  // namespace poolgrad::layers

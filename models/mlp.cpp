// mlp.
#include "models/mlp.h"

#include "layers/linear.h"
#include "layers/stateless.h"

namespace poolgrad::models {

layers::Layer mlp(std::int64_t inputs, std::span<const std::int64_t> hidden, std::int64_t classes,
                  std::uint64_t seed) {
  std::vector<layers::Layer> stack;
  for (const std::int64_t width : hidden) {
    if (width < 1) throw ArgumentError(text("mlp: a hidden layer of ", width, "; take 1 or more"));
    stack.emplace_back(layers::Linear{inputs, width, seed});
    stack.emplace_back(layers::ReLU{});
    inputs = width;
  }
  stack.emplace_back(layers::Linear{inputs, classes, seed});
  return [all = layers::Sequential(std::move(stack))](Graph& graph, Tensor x, bool training) {
    return all(graph, layers::Flatten{}(graph, x, training), training);
  };
}

}  // namespace poolgrad::models

// chain.
#include "models/chain.h"

#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/stateless.h"

namespace poolgrad::models {

layers::Layer chain(std::int64_t depth, std::int64_t width, std::int64_t classes,
                    std::uint64_t seed) {
  if (depth < 1 || width < 1 || classes < 1) {
    throw ArgumentError(text("chain: ", depth, " convolutions of width ", width, " and ", classes,
                             " classes; each must be at least 1"));
  }
  return [=](Graph& graph, Tensor x, bool training) {
    std::vector<layers::Layer> all;
    for (std::int64_t i = 0; i < depth; ++i) {
      all.emplace_back(layers::Conv2d{.inputs = i == 0 ? x.shape()[1] : width,
                                      .outputs = width,
                                      .settings = {.padding = {1, 1}},
                                      .seed = seed,
                                      .gain = layers::kGainOfReLU});
      all.emplace_back(layers::ReLU{});
    }
    all.emplace_back(layers::GlobalAvgPool2d{});
    all.emplace_back(layers::Flatten{});
    all.emplace_back(layers::Linear{width, classes, seed});
    return layers::Sequential(std::move(all))(graph, x, training);
  };
}

}  // namespace poolgrad::models

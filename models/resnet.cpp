// resnet.
#include "models/resnet.h"

#include "layers/batch_norm.h"
#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/stateless.h"

namespace poolgrad::models {
namespace {

constexpr std::int64_t kMostBlocks = 200;  // as deep as He et al. went

layers::Conv2d conv(std::int64_t inputs, std::int64_t outputs, std::int32_t size,
                    std::int32_t stride, std::uint64_t seed) {
  const std::int32_t padding = size / 2;
  return {inputs,        outputs,
          {size, size},  {.stride = {stride, stride}, .padding = {padding, padding}},
          seed,
          /*bias=*/false};
}

/// Two convolutions and a way around them.
struct Block {
  std::int64_t inputs = 0, outputs = 0;
  std::int32_t stride = 1;
  std::uint64_t seed = 0;

  Tensor operator()(Graph& graph, Tensor x, bool training) const {
    const auto next = [&](const char* name, const layers::Layer& layer, Tensor t) {
      return layers::named(name, layer, graph, t, training);
    };
    const layers::BatchNorm2d norm{outputs};
    Tensor y = next("conv1", conv(inputs, outputs, 3, stride, seed), x);
    y = relu(next("bn1", norm, y));
    y = next("conv2", conv(outputs, outputs, 3, 1, seed), y);
    y = next("bn2", norm, y);
    if (stride != 1 || inputs != outputs) {
      x = next("downsample", layers::Sequential{conv(inputs, outputs, 1, stride, seed), norm}, x);
    }
    return relu(add(y, x));
  }
};

}  // namespace

layers::Layer resnet(std::int64_t blocks, std::int64_t width, std::int64_t classes,
                     std::uint64_t seed) {
  if (blocks < 1 || width < 1 || classes < 1) {
    throw ArgumentError(text("resnet: ", blocks, " blocks of width ", width, " and ", classes,
                             " classes; each must be at least 1"));
  }
  if (blocks > kMostBlocks) {
    throw ArgumentError(text("resnet: ", blocks, " blocks in each stage; take at most ",
                             kMostBlocks, ", which are ", 6 * kMostBlocks + 2, " layers"));
  }
  std::vector<layers::Layer> stages;
  std::int64_t channels = width;
  for (const std::int64_t outputs : {width, 2 * width, 4 * width}) {
    std::vector<layers::Layer> stage;
    for (std::int64_t i = 0; i < blocks; ++i) {
      stage.emplace_back(Block{channels, outputs, outputs != width && i == 0 ? 2 : 1, seed});
      channels = outputs;
    }
    stages.emplace_back(layers::Sequential(std::move(stage)));
  }
  return [=](Graph& graph, Tensor x, bool training) {
    const auto next = [&](const char* name, const layers::Layer& layer, Tensor t) {
      return layers::named(name, layer, graph, t, training);
    };
    Tensor y = next("conv1", conv(x.shape()[1], width, 3, 1, seed), x);
    y = relu(next("bn1", layers::BatchNorm2d{width}, y));
    y = next("layer1", stages[0], y);
    y = next("layer2", stages[1], y);
    y = next("layer3", stages[2], y);
    return next("fc", layers::Linear{4 * width, classes, seed}, flatten(global_avg_pool2d(y)));
  };
}

}  // namespace poolgrad::models

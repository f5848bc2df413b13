// unet.
#include "models/unet.h"

#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/stateless.h"

namespace poolgrad::models {
namespace {

/// Twice a convolution and ReLU.
layers::Sequential stage(std::int64_t inputs, std::int64_t outputs, std::uint64_t seed) {
  const auto conv = [&](std::int64_t from) {
    return layers::Conv2d{.inputs = from,
                          .outputs = outputs,
                          .settings = {.padding = {1, 1}},
                          .seed = seed,
                          .gain = layers::kGainOfReLU};
  };
  return {conv(inputs), layers::ReLU{}, conv(outputs), layers::ReLU{}};
}

}  // namespace

layers::Layer unet(std::int64_t width, std::int64_t classes, std::uint64_t seed) {
  if (width < 1 || classes < 1) {
    throw ArgumentError(
        text("unet: width ", width, " and ", classes, " classes; each must be at least 1"));
  }
  return [=](Graph& graph, Tensor x, bool training) {
    if (x.shape()[2] % 4 != 0 || x.shape()[3] % 4 != 0) {
      throw ShapeError(text("unet: x ", x.shape(),
                            " is halved twice and doubled again; make height and width multiples "
                            "of 4"));
    }
    const auto next = [&](const char* name, Tensor t, std::int64_t outputs) {
      return layers::named(name, stage(t.shape()[1], outputs, seed), graph, t, training);
    };
    const Tensor down1 = next("down1", x, width);
    const Tensor down2 = next("down2", max_pool2d(down1), 2 * width);
    Tensor y = next("middle", max_pool2d(down2), 4 * width);
    y = next("up2", concat({down2, upsample_nearest2d(y)}, 1), 2 * width);
    y = next("up1", concat({down1, upsample_nearest2d(y)}, 1), width);
    return layers::named("fc", layers::Linear{width, classes, seed}, graph,
                         flatten(global_avg_pool2d(y)), training);
  };
}

}  // namespace poolgrad::models

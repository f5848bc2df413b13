// cnn.
#include "models/cnn.h"

#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/stateless.h"

namespace poolgrad::models {

layers::Sequential cnn(const CnnInput& input, std::int64_t classes, std::uint64_t seed) {
  if (input.height < 4 || input.width < 4) {
    throw ArgumentError(text("cnn: images of ", input.height, " by ", input.width,
                             "; they are halved twice, so take 4 by 4 or more"));
  }
  const auto conv = [&](std::int64_t inputs, std::int64_t outputs) {
    return layers::Conv2d{inputs, outputs, {3, 3}, {.padding = {1, 1}}, seed};
  };
  const std::int64_t features = 64 * (input.height / 2 / 2) * (input.width / 2 / 2);
  return {
      conv(input.channels, 32), layers::ReLU{},
      layers::MaxPool2d{},      conv(32, 64),
      layers::ReLU{},           layers::MaxPool2d{},
      layers::Flatten{},        layers::Linear{features, 128, seed},
      layers::ReLU{},           layers::Linear{128, classes, seed},
  };
}

}  // namespace poolgrad::models

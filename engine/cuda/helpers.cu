// Kernels of our own that stand before and after cuDNN's.
#include "engine/cuda/helpers.h"
#include "engine/cuda/pixel_sums.h"
#include "engine/cuda/turn.h"
#include "engine/ops/expressions.h"

namespace poolgrad::cuda {
namespace {

struct BiasRelu {
  const float* bias;
  bool relu;
  float* y;
  std::int64_t channels;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const float value = y[i] + (bias != nullptr ? bias[i % channels] : 0.0F);
    y[i] = relu ? expressions::relu(value) : value;
  }
};

struct Values {
  const float* dy;
  POOLGRAD_BOTH double first(std::int64_t at, std::int64_t) const {
    return static_cast<double>(dy[at]);
  }
  POOLGRAD_BOTH double second(std::int64_t, std::int64_t) const { return 0.0; }
};

}  // namespace

void turn(const Queue& queue, const float* from, float* to, std::int64_t images, std::int64_t rows,
          std::int64_t columns) {
  each(queue, images * rows * columns, Turn<float>{from, to, rows, columns});
}

void bias_relu(const Queue& queue, const float* bias, bool relu, float* y, std::int64_t pixels,
               std::int64_t channels) {
  if (bias != nullptr || relu) each(queue, pixels * channels, BiasRelu{bias, relu, y, channels});
}

std::size_t bias_grad_bytes(std::int64_t channels) {
  return PixelSums{1, 1, channels, 0}.workspace_bytes();
}

void bias_grad(const Queue& queue, const float* dy, float* bias, std::int64_t pixels,
               std::int64_t channels, std::byte* workspace) {
  const PixelSums s{1, pixels, channels, 0};
  auto* const parts = reinterpret_cast<double*>(workspace);
  each_group(queue, PixelSums::kParts * channels, SumPart<Values>{s, Values{dy}, nullptr, parts});
  each(queue, channels, SumParts<float>{parts, channels, bias, nullptr});
}

}  // namespace poolgrad::cuda

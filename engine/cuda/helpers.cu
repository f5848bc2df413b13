// Kernels of our own that stand before and after cuDNN's.
#include "engine/cuda/column_sums.h"
#include "engine/cuda/helpers.h"
#include "engine/cuda/turn.h"
#include "engine/ops/expressions.h"

namespace poolgrad::cuda {
namespace {

template <typename T, int N>
struct BiasRelu {
  const float* bias;
  bool relu;
  T* y;
  std::int64_t pixels, channels;

  POOLGRAD_BOTH void operator()(std::int64_t column, const Steps& s) const {
    Few<float, N> add{};
    if (bias != nullptr) add = load_singly<N>(bias + column * N);
    for (std::int64_t pixel = s.first; pixel < pixels; pixel += s.step) {
      T* const at = y + pixel * channels + column * N;
      auto values = load<N>(at);
      for (int k = 0; k < N; ++k) {
        values[k] += add[k];
        if (relu) values[k] = expressions::relu(values[k]);
      }
      store(at, values);
    }
  }
};

}  // namespace

void turn(const Queue& queue, DType dtype, const void* from, void* to, std::int64_t images,
          std::int64_t rows, std::int64_t columns) {
  turn_words(queue, size_of(dtype), images, rows, columns, from, to);
}

void bias_relu(const Queue& queue, DType dtype, const float* bias, bool relu, void* y,
               std::int64_t pixels, std::int64_t channels) {
  if (bias == nullptr && !relu) return;
  by_dtype(dtype, [&]<typename T>(Of<T>) {
    by_width<kFit<T>>(channels, {y}, [&]<int N>(Width<N>) {
      each_column(queue, pixels, channels / N,
                  BiasRelu<T, N>{bias, relu, static_cast<T*>(y), pixels, channels});
    });
  });
}

std::size_t bias_grad_bytes(std::int64_t pixels, std::int64_t channels) {
  return ColumnSums(pixels, channels).workspace_bytes(1);
}

void bias_grad(const Queue& queue, DType dtype, const void* dy, float* bias, std::int64_t pixels,
               std::int64_t channels, std::byte* workspace) {
  by_dtype(dtype, [&]<typename T>(Of<T>) {
    ColumnSums(pixels, channels)
        .run(queue, Counting{pixels}, Plain<T>{static_cast<const T*>(dy)}, {dy}, workspace,
             ToFloat{bias});
  });
}

}  // namespace poolgrad::cuda

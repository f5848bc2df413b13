// Kernels of our own that stand before and after cuDNN's.
#include "engine/cuda/column_sums.h"
#include "engine/cuda/helpers.h"
#include "engine/cuda/turn.h"
#include "engine/ops/expressions.h"

namespace poolgrad::cuda {
namespace {

/// Small matrices that are converted as they are turned.
template <typename From, typename To>
struct TurnConverted {
  const From* from;
  To* to;
  std::int64_t rows, columns;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const std::int64_t size = rows * columns, image = i / size, at = i % size;
    to[i] =
        static_cast<To>(static_cast<float>(from[image * size + at % rows * columns + at / rows]));
  }
};

template <typename Bias, typename T, int N>
struct BiasRelu {
  const Bias* bias;
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

void turn(const Queue& queue, ConstValues from, Values to, std::int64_t images, std::int64_t rows,
          std::int64_t columns) {
  if (from.dtype == to.dtype)
    return turn_words(queue, size_of(to.dtype), images, rows, columns, from.data, to.data);
  by_dtype(from.dtype, [&]<typename From>(Of<From>) {
    by_dtype(to.dtype, [&]<typename To>(Of<To>) {
      each(queue, images * rows * columns,
           TurnConverted<From, To>{static_cast<const From*>(from.data), static_cast<To*>(to.data),
                                   rows, columns});
    });
  });
}

void bias_relu(const Queue& queue, ConstValues bias, bool relu, Values y, std::int64_t pixels,
               std::int64_t channels) {
  if (bias.data == nullptr && !relu) return;
  by_dtype(bias.dtype, [&]<typename Bias>(Of<Bias>) {
    by_dtype(y.dtype, [&]<typename T>(Of<T>) {
      by_width<kFit<T>>(channels, {y.data}, [&]<int N>(Width<N>) {
        each_column(queue, pixels, channels / N,
                    BiasRelu<Bias, T, N>{static_cast<const Bias*>(bias.data), relu,
                                         static_cast<T*>(y.data), pixels, channels});
      });
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

// Kernels of our own that stand before and after cuDNN's. They are in helpers.cu.
#pragma once

#include "engine/cuda/launch.h"

namespace poolgrad::cuda {

/// Values of one dtype each: f32, f16 or bf16.
struct ConstValues {
  const void* data;
  DType dtype;
};
struct Values {
  void* data;
  DType dtype;
};

/// to [images, columns, rows] = from [images, rows, columns], converted where dtypes differ:
/// weights [o, i, kh·kw] as [o, kh·kw, i], and back.
void turn(const Queue& queue, ConstValues from, Values to, std::int64_t images, std::int64_t rows,
          std::int64_t columns);

/// y [pixels, channels] += bias [channels], which may be null; then max(y, 0) with `relu`.
void bias_relu(const Queue& queue, ConstValues bias, bool relu, Values y, std::int64_t pixels,
               std::int64_t channels);

/// bias [channels] = the sum of dy [pixels, channels]. The workspace takes as many bytes as said.
void bias_grad(const Queue& queue, DType dtype, const void* dy, float* bias, std::int64_t pixels,
               std::int64_t channels, std::byte* workspace);
[[nodiscard]] std::size_t bias_grad_bytes(std::int64_t pixels, std::int64_t channels);

}  // namespace poolgrad::cuda

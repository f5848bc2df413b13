// What batch_norm.cpp and batch_norm_grad.cpp share, and the loops below them
// (batch_norm_loops.cpp).
#pragma once

#include <algorithm>

#include "engine/graph.h"

namespace poolgrad::normalization {

// ---- loops over x [pixels, channels]: channels-last images, one pixel after the other

struct Extent {
  std::int64_t pixels = 0, channels = 0;
};

/// y = scale · x + shift, each [channels]; with `relu` values below 0 become 0.
struct Line {
  const float *scale = nullptr, *shift = nullptr;
  bool relu = false;
};

/// dx = by_dy · dy + by_x · x + shift, each [channels].
struct Slope {
  const float *by_dy = nullptr, *by_x = nullptr, *shift = nullptr;
};

/// Sums of x and of x · x by channel: sums [2, channels] =, or += with `add`. In f64, so that a
/// mean of 1000 deviations costs no digit of the variance.
void sums(const float* x, const Extent& extent, bool add, double* sums);

/// y may be x.
void apply(const float* x, const Extent& extent, const Line& line, float* y);

/// Sums of dy and of dy · x by channel, likewise. Where the ReLU of `line` has cut x off, dy is 0:
/// here and in grad().
void grad_sums(const float* dy, const float* x, const Extent& extent, const Line& line, bool add,
               double* sums);

/// dx may be dy.
void grad(const float* dy, const float* x, const Extent& extent, const Line& line,
          const Slope& slope, float* dx);

// ---- nodes

/// Which rows of the batch a node has, and what it does at once.
struct Part {
  std::int64_t first = 0;  // row of the batch that this part begins with
  bool relu = false;       // set by fusing
  bool operator==(const Part&) const = default;
};

/// Cut::part.
Attributes part_of(const Attributes& attributes, Rows rows);

/// x or dy [n, c, h, w] -> sums [2, c] of f64.
std::vector<Spec> sums_infer(const Site& site);

/// The images of one part.
struct Images {
  std::int64_t n, channels, pixels, first;

  Images(const Shape& x, const Part& part)
      : n(x[0]), channels(x[1]), pixels(x[2] * x[3]), first(part.first) {}

  /// Those that count, of so many rows in the batch.
  [[nodiscard]] Extent counting(std::int64_t rows) const {
    return {std::clamp<std::int64_t>(rows - first, 0, n) * pixels, channels};
  }
  /// 0 in those that do not.
  void clear_rest(const Extent& counting, float* values) const {
    std::fill(values + counting.pixels * channels, values + n * pixels * channels, 0.0F);
  }
};

/// Arrays [channels] in workspace.
struct Arrays {
  std::int64_t channels;

  [[nodiscard]] std::size_t bytes(int count) const {
    return static_cast<std::size_t>(channels * count) * sizeof(float);
  }
  [[nodiscard]] float* at(const Args& a, int i) const {
    return reinterpret_cast<float*>(a.workspace(bytes(i)));
  }
};

/// Normalizing with weight and bias, each [channels], as a line in arrays 0 and 1. Forward and
/// backward must agree to the bit on what a ReLU cuts off, so this is the only place.
Line line(const float* mean, const float* rstd, const float* weight, const float* bias, bool relu,
          const Arrays& arrays, const Args& a);

/// OpDef::backward of batch_norm with inputs x, mean, rstd, weight, bias, rows.
std::vector<Tensor> backward(const Backward& b);

}  // namespace poolgrad::normalization

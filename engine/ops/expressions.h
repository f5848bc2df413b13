// Expressions that the CPU's loops and CUDA's kernels share: one value each, no loops over arrays.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "engine/cuda/both.h"

#define POOLGRAD_EXPRESSION [[gnu::always_inline]] POOLGRAD_BOTH inline

namespace poolgrad::expressions {

/// NaN stays NaN.
POOLGRAD_EXPRESSION float relu(float x) { return x < 0.0F ? 0.0F : x; }
POOLGRAD_EXPRESSION float relu_grad(float y, float dy) { return y > 0.0F ? dy : 0.0F; }

/// e to the x for x <= 0, within 2 units of the last place: x = n·ln 2 + r, and a series for e to
/// the r. NaN stays NaN; below -87 answers 0. The compiler makes vectors of it.
POOLGRAD_EXPRESSION float exponential(float x) {
  constexpr float kRound = 12582912.0F;  // 1.5 · 2²³: adding it leaves the integer in the last bits
  constexpr float kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;
  const float shifted = x * 1.44269504F + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float series = 1.0F / 5040.0F;
  series = series * r + 1.0F / 720.0F;
  series = series * r + 1.0F / 120.0F;
  series = series * r + 1.0F / 24.0F;
  series = series * r + 1.0F / 6.0F;
  series = series * r + 0.5F;
  series = series * r + 1.0F;
  series = series * r + 1.0F;
  const std::uint32_t exponent = std::bit_cast<std::uint32_t>(shifted) << 23;
  const float result = std::bit_cast<float>(exponent + std::bit_cast<std::uint32_t>(series));
  return x < -87.0F ? 0.0F : series != series ? series : result;
}

/// Whether the first largest of `x` is at `label`. No row with NaN is.
POOLGRAD_EXPRESSION bool correct(const float* x, std::int64_t classes, std::int64_t label) {
  bool all = x[label] == x[label];
  for (std::int64_t i = 0; i < label; ++i) all = all && x[i] < x[label];
  for (std::int64_t i = label + 1; i < classes; ++i) all = all && x[i] <= x[label];
  return all;
}

/// Whether value `i` leaves the first largest to the one at `label`: of correct(), of one value.
POOLGRAD_EXPRESSION bool below(float x, std::int64_t i, float at_label, std::int64_t label) {
  return i < label ? x < at_label : x <= at_label;
}

/// Whether `next` takes the place of `best` in a maximum: of equal values the first wins, NaN
/// always, as in PyTorch.
POOLGRAD_EXPRESSION bool wins(float next, float best) { return (next > best) | (next != next); }

/// Which random numbers a dropout draws. Of initial weights, streams are small numbers; these have
/// the first bit set.
POOLGRAD_EXPRESSION std::uint64_t dropout_stream(std::int64_t node, std::int64_t step) {
  return std::uint64_t{1} << 63U | static_cast<std::uint64_t>(node) << 40U |
         static_cast<std::uint64_t>(step);
}

/// `number` is one of draw()'s; `drop` in 2^-24: of so many numbers 0, 1, ... an element is
/// dropped.
POOLGRAD_EXPRESSION float dropped(std::uint32_t number, std::uint32_t drop, float scale, float x) {
  return number >> 8U < drop ? 0.0F : x * scale;
}

/// 1 / sqrt(variance + epsilon).
POOLGRAD_EXPRESSION float rstd(double variance, double epsilon) {
  return static_cast<float>(1.0 / std::sqrt(variance + epsilon));
}

/// Of sums of x and of x·x over `count` values. Below 0 by rounding only.
struct Moments {
  double mean, variance;
};
POOLGRAD_EXPRESSION Moments moments(double sum, double sum_of_squares, double count) {
  const double mean = sum / count;
  const double variance = sum_of_squares / count - mean * mean;
  return {mean, variance < 0.0 ? 0.0 : variance};
}

/// A running statistic after one more batch.
POOLGRAD_EXPRESSION float moved(float running, double value, double share) {
  return static_cast<float>((1.0 - share) * running + share * value);
}

/// Of batch_norm: d loss / d weight, the sum of dy · (x − mean) · rstd.
POOLGRAD_EXPRESSION double norm_weight_grad(double sum_dy, double sum_dy_x, double mean,
                                            double rstd) {
  return rstd * (sum_dy_x - mean * sum_dy);
}

/// dx = by_dy · dy + by_x · x + shift = weight · rstd · (dy − the mean of dy − x̂ · the mean of
/// dy · x̂) with x̂ = (x − mean) · rstd and means over the `count` values that count.
struct NormSlope {
  float by_dy, by_x, shift;
};
POOLGRAD_EXPRESSION NormSlope norm_slope(float mean, float rstd, float weight, double sum_dy,
                                         double sum_dy_x, double count) {
  const double scale = static_cast<double>(rstd) * weight;
  const double tilt = scale * rstd * norm_weight_grad(sum_dy, sum_dy_x, mean, rstd) / count;
  return {static_cast<float>(scale), static_cast<float>(-tilt),
          static_cast<float>(tilt * mean - scale * sum_dy / count)};
}

}  // namespace poolgrad::expressions

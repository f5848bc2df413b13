// Small images to train on, and how far apart two trainings are. Networks are the tests' own.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include "engine/program.h"

namespace poolgrad::testing {

/// Noise in [-1, 1) of one channel, side · side; labels from 0 to 9.
struct SmallImages {
  std::int64_t side;
  std::vector<float> x;
  std::vector<std::int64_t> y;

  SmallImages(std::int64_t count, std::int64_t edge)
      : side(edge),
        x(static_cast<std::size_t>(count * edge * edge)),
        y(static_cast<std::size_t>(count)) {
    std::mt19937 random(11);
    for (float& value : x) value = static_cast<float>(random() % 2000) / 1000.0F - 1.0F;
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<std::int64_t>(i * i % 10);
  }

  /// The first `rows` of them, for slots of shapes [batch, 1, side, side] and [batch].
  [[nodiscard]] std::vector<Feed> feeds(const Tensor& samples, const Tensor& labels,
                                        std::int64_t rows) {
    const auto count = static_cast<std::size_t>(rows);
    const auto pixels = static_cast<std::size_t>(rows * side * side);
    return {{samples, ArrayView::of(std::span(x).first(pixels), {rows, 1, side, side}, DType::f32)},
            {labels, ArrayView::of(std::span(y).first(count), {rows}, DType::i64)}};
  }
};

/// The largest difference between values at the same place; infinite for unequal sizes and for NaN.
inline double gap(const std::vector<float>& a, const std::vector<float>& b) {
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  if (a.size() != b.size()) return kInfinite;
  double worst = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double apart = std::abs(static_cast<double>(a[i]) - b[i]);
    worst = std::max(worst, std::isnan(apart) ? kInfinite : apart);
  }
  return worst;
}

}  // namespace poolgrad::testing

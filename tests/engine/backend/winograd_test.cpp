// Winograd's tiles in every copy that this processor runs, against sums in f64.
#include "engine/backend/winograd.h"

#include <algorithm>
#include <cmath>

#include <doctest/doctest.h>

#include "engine/backend/x86_level.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad::winograd {
namespace {

// Tiles whole and cut off, more than a block of them, images smaller than a tile, every padding.
const std::vector<Problem> kProblems{
    {2, 8, 8, 16, 16, 1, 1},   {3, 7, 5, 16, 32, 1, 1}, {1, 3, 3, 16, 16, 0, 0},
    {2, 6, 9, 48, 16, 2, 0},   {1, 1, 1, 16, 16, 1, 1}, {40, 4, 13, 16, 48, 1, 2},
    {1, 10, 6, 64, 112, 0, 1},
};

struct Data {
  std::vector<float> x, weight, bias, dy;

  explicit Data(const Problem& p)
      : x(testing::spread(p.images * p.height * p.width * p.in, 1, 1e-3F)),
        weight(testing::spread(p.in * p.out * 9, 2, 1e-3F)),
        bias(testing::spread(p.out, 3, 1e-3F)),
        dy(testing::spread(p.images * p.out_height() * p.out_width() * p.out, 4, 1e-3F)) {}
};

std::size_t at(std::int64_t place) { return static_cast<std::size_t>(place); }

/// Calls f(place in x, place in y, place in weight) for each product of the convolution.
template <typename F>
void each_product(const Problem& p, F f) {
  for (std::int64_t n = 0; n < p.images; ++n)
    for (std::int64_t y = 0; y < p.out_height(); ++y)
      for (std::int64_t x = 0; x < p.out_width(); ++x)
        for (std::int64_t window = 0; window < 9; ++window) {
          const std::int64_t row = y + window / 3 - p.padding_h,
                             column = x + window % 3 - p.padding_w;
          if (row < 0 || row >= p.height || column < 0 || column >= p.width) continue;
          const std::int64_t from = ((n * p.height + row) * p.width + column) * p.in;
          const std::int64_t to = ((n * p.out_height() + y) * p.out_width() + x) * p.out;
          for (std::int64_t i = 0; i < p.in; ++i)
            for (std::int64_t o = 0; o < p.out; ++o)
              f(at(from + i), at(to + o),
                at(p.flipped ? (i * p.out + o) * 9 + 8 - window : (o * p.in + i) * 9 + window));
        }
}

std::vector<double> weight_gradient(const Problem& p, const Data& data) {
  std::vector<double> sums(data.weight.size());
  each_product(p, [&](std::size_t x, std::size_t y, std::size_t weight) {
    sums[weight] += static_cast<double>(data.x[x]) * data.dy[y];
  });
  return sums;
}

/// Root mean square of the differences, relative to that of the values.
double gap(const std::vector<float>& made, const std::vector<double>& expected) {
  double differences = 0, values = 0;
  for (std::size_t i = 0; i < made.size(); ++i) {
    differences += std::pow(made[i] - expected[i], 2);
    values += std::pow(expected[i], 2);
  }
  return std::sqrt(differences / values);
}

TEST_CASE("winograd: forward agrees with sums in f64, turned weights, bias and relu included") {
  for (Problem p : kProblems) {
    for (const bool flipped : {false, true}) {
      p.flipped = flipped, p.relu = flipped;
      const Data data(p);
      std::vector<double> expected(data.dy.size());
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = data.bias[i % at(p.out)];
      each_product(p, [&](std::size_t x, std::size_t y, std::size_t weight) {
        expected[y] += static_cast<double>(data.x[x]) * data.weight[weight];
      });
      for (double& value : expected) value = p.relu ? std::max(value, 0.0) : value;
      testing::Buffer workspace(workspace_bytes(p));
      for (const int level : {1, 3, 4}) {
        if (level > x86_level()) continue;
        std::vector<float> y(expected.size(), NAN);
        calls(level).forward(p, data.x.data(), data.weight.data(), data.bias.data(), y.data(),
                             workspace.data());
        CHECK(gap(y, expected) < 3e-6);
      }
    }
  }
}

/// Channels of both ends of the range, few tiles and many.
const std::vector<Problem> kSums{
    {8, 16, 16, 16, 16, 1, 1},
    {2, 16, 16, 64, 16, 1, 1},
    {1, 12, 12, 256, 16, 1, 1},
    {64, 28, 28, 16, 16, 1, 1},
};

TEST_CASE("winograd: forward rounds as little as it says, and at most four times plain sums") {
  for (const Problem& p : kSums) {
    if (p.images > 8) continue;
    CAPTURE(p.in);
    const Data data(p);
    std::vector<double> expected(data.dy.size());
    std::vector<float> plain(data.dy.size()), tiles(data.dy.size());
    each_product(p, [&](std::size_t x, std::size_t y, std::size_t weight) {
      expected[y] += static_cast<double>(data.x[x]) * data.weight[weight];
      plain[y] += data.x[x] * data.weight[weight];
    });
    testing::Buffer workspace(workspace_bytes(p));
    for (const int level : {1, 3, 4}) {
      if (level > x86_level()) continue;
      calls(level).forward(p, data.x.data(), data.weight.data(), nullptr, tiles.data(),
                           workspace.data());
      CHECK(gap(tiles, expected) < forward_error(p.in));
      CHECK(gap(tiles, expected) < 4 * gap(plain, expected));
    }
  }
}

TEST_CASE("winograd: the gradient of the weights rounds as little as it says") {
  for (const Problem& p : kSums) {
    CAPTURE(p.tiles());
    const Data data(p);
    const std::vector<double> expected = weight_gradient(p, data);
    testing::Buffer workspace(workspace_bytes(p));
    for (const int level : {1, 3, 4}) {
      if (level > x86_level()) continue;
      std::vector<float> gradient(expected.size());
      calls(level).weights(p, data.x.data(), data.dy.data(), false, gradient.data(),
                           workspace.data());
      CHECK(gap(gradient, expected) < weights_error(p.tiles()));
    }
  }
}

TEST_CASE("winograd: the gradient of the weights agrees with sums in f64, and can be added") {
  for (const Problem& p : kProblems) {
    const Data data(p);
    const std::vector<double> expected = weight_gradient(p, data);
    testing::Buffer workspace(workspace_bytes(p));
    for (const int level : {1, 3, 4}) {
      if (level > x86_level()) continue;
      std::vector<float> gradient(expected.size(), NAN);
      for (const bool add : {false, true}) {
        calls(level).weights(p, data.x.data(), data.dy.data(), add, gradient.data(),
                             workspace.data());
        if (add) {
          for (float& value : gradient) value /= 2;
        }
        CHECK(gap(gradient, expected) < 3e-6);
      }
    }
  }
}

TEST_CASE("winograd: relu keeps NaN, as it does elsewhere") {
  Problem p{1, 4, 4, 16, 16, 1, 1};
  p.relu = true;
  Data data(p);
  std::fill(data.x.begin(), data.x.end(), NAN);
  testing::Buffer workspace(workspace_bytes(p));
  for (const int level : {1, 3, 4}) {
    if (level > x86_level()) continue;
    std::vector<float> y(data.dy.size());
    calls(level).forward(p, data.x.data(), data.weight.data(), nullptr, y.data(), workspace.data());
    CHECK(std::ranges::all_of(y, [](float value) { return std::isnan(value); }));
  }
}

TEST_CASE("winograd: pays for the images of a network, not for one pixel or odd channels") {
  CHECK(pays({128, 28, 28, 16, 16, 1, 1}));
  CHECK(pays({16, 7, 7, 64, 64, 1, 1}));
  CHECK_FALSE(pays({128, 1, 1, 64, 64, 1, 1}));
  CHECK_FALSE(pays({128, 28, 28, 16, 17, 1, 1}));
  CHECK_FALSE(pays({128, 14, 14, 512, 16, 1, 1}));
}

}  // namespace
}  // namespace poolgrad::winograd

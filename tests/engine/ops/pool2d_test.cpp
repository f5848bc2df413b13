// max_pool2d, avg_pool2d and global_avg_pool2d against their definitions.
#include <cmath>

#include <doctest/doctest.h>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/passes/passes.h"
#include "tests/engine/gradient.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using testing::Evaluation, testing::Value;

std::vector<Pool2d> settings() {
  return {{},
          {{3, 3}, {2, 2}, {1, 1}},
          {{2, 3}, {1, 2}, {1, 0}},
          {{3, 2}, {3, 2}, {0, 0}},
          {{1, 1}, {2, 1}, {0, 0}},
          {{3, 3}, {1, 1}, {1, 1}},
          {{2, 2}, {3, 3}, {1, 1}}};
}

std::string to_string(const Pool2d& s) {
  return text("size ", s.size[0], " ", s.size[1], " stride ", s.stride[0], " ", s.stride[1],
              " padding ", s.padding[0], " ", s.padding[1]);
}

/// f(value or NaN where padding is) over each window, in order of [n, c, oh, ow].
template <typename F>
void each_window(const Value& x, const Shape& y, const Pool2d& s, F f) {
  const Shape& xs = x.spec.shape;
  for (std::int64_t i = 0; i < y.count(); ++i) {
    const std::int64_t ox = i % y[3], oy = i / y[3] % y[2], plane = i / y[3] / y[2];
    std::vector<std::int64_t> places;  // in x, -1 outside
    for (std::int64_t ky = 0; ky < s.size[0]; ++ky) {
      for (std::int64_t kx = 0; kx < s.size[1]; ++kx) {
        const std::int64_t iy = oy * s.stride[0] - s.padding[0] + ky;
        const std::int64_t ix = ox * s.stride[1] - s.padding[1] + kx;
        const bool inside = iy >= 0 && iy < xs[2] && ix >= 0 && ix < xs[3];
        places.push_back(inside ? (plane * xs[2] + iy) * xs[3] + ix : -1);
      }
    }
    f(static_cast<std::size_t>(i), places);
  }
}

struct Pooled {
  Value x, y, dy, dx;
};

Pooled run_pool(const std::function<Tensor(Tensor)>& build, const Shape& shape,
                std::vector<float> values = {}) {
  Graph graph;
  const Tensor x = graph.parameter(shape, {}, "x");
  const Tensor y = build(x);
  const std::int64_t count = y.shape().count();
  const Tensor slopes = graph.input({{count, 1}}, "slopes", false), one = graph.input({{}}, "one");
  const Tensor loss = reshape(matmul(reshape(y, {1, count}), slopes), {});
  const auto grads = differentiate(loss, std::vector{x}, one);
  Evaluation run(graph);
  run.set(x, values.empty() ? testing::spread(shape.count(), 1) : values);
  run.set(slopes, testing::spread(count, 2));
  run.set(one, std::vector{1.0F});
  run.run();
  return {run[x], run[y], testing::floats(y.shape(), run[slopes].as<float>()), run[grads[0]]};
}

std::vector<Shape> shapes() {
  std::vector<Shape> all{{2, 3, 7, 9}, {1, 1, 3, 3}, {3, 5, 6, 6}};
  for (const std::int64_t channels : {2, 4, 15, 16, 17, 20, 32, 33})
    all.push_back({2, channels, 6, 7});
  return all;
}

TEST_CASE("max_pool2d: values and winners' gradients agree with the definition") {
  for (const Pool2d& s : settings()) {
    for (const Shape& shape : shapes()) {
      CAPTURE(to_string(s));
      CAPTURE(to_string(shape));
      const Pooled got = run_pool([&](Tensor x) { return max_pool2d(x, s); }, shape);
      Value y(got.y.spec), dx(got.x.spec);
      std::ranges::fill(dx.as<float>(), 0.0F);
      each_window(got.x, got.y.spec.shape, s, [&](std::size_t i, const auto& places) {
        std::size_t best = 0;
        float top = -INFINITY;
        for (const std::int64_t place : places) {
          if (place < 0 || got.x.as<float>()[static_cast<std::size_t>(place)] <= top) continue;
          best = static_cast<std::size_t>(place);
          top = got.x.as<float>()[best];
        }
        y.as<float>()[i] = top;
        dx.as<float>()[best] += got.dy.as<float>()[i];
      });
      CHECK(got.y.same_bits(y));
      CHECK(testing::difference(got.dx, dx) < 1e-6);
    }
  }
}

TEST_CASE("max_pool2d: of equal values the first wins, and NaN is passed on") {
  const auto pool = [](Tensor x) { return max_pool2d(x); };
  const Pooled equal = run_pool(pool, {1, 1, 2, 2}, {1.0F, 1.0F, 1.0F, 1.0F});
  CHECK(equal.dx.as<float>()[0] == equal.dy.as<float>()[0]);
  CHECK(equal.dx.as<float>()[1] == 0.0F);
  const Pooled zeros = run_pool(pool, {1, 1, 2, 2}, {-INFINITY, -INFINITY, -INFINITY, -INFINITY});
  CHECK(zeros.y.as<float>()[0] == -INFINITY);
  for (std::size_t place = 0; place < 4; ++place) {
    CAPTURE(place);
    std::vector<float> values{4.0F, 3.0F, 2.0F, 5.0F};
    values[place] = NAN;
    CHECK(std::isnan(run_pool(pool, {1, 1, 2, 2}, values).y.as<float>()[0]));
  }
}

TEST_CASE("max_pool2d: a window of 16 x 16 still tells its winner") {
  std::vector<float> values(256, 0.0F);
  values[255] = 1.0F;
  const Pooled got = run_pool(
      [](Tensor x) {
        return max_pool2d(x, {{16, 16}, {16, 16}, {0, 0}});
      },
      {1, 1, 16, 16}, values);
  CHECK(got.y.as<float>()[0] == 1.0F);
  CHECK(got.dx.as<float>()[255] == got.dy.as<float>()[0]);
}

TEST_CASE("max_pool2d: with the ReLU before it fused it gives the same values and gradients") {
  std::vector<Pool2d> all = settings();
  all.push_back({{16, 16}, {1, 1}, {8, 8}});  // as many places as winners: not fused
  for (const Pool2d& s : all) {
    for (const std::int64_t channels : {1, 3, 16, 33}) {
      CAPTURE(to_string(s));
      CAPTURE(channels);
      std::vector<Pooled> results;
      for (const bool fuse : {false, true}) {
        const auto build = [&](Tensor x) {
          const Tensor y = max_pool2d(relu(x), s);
          if (fuse) passes::fuse(*x.graph);
          CHECK(x.graph->nodes.size() == (fuse && s.size[0] < 16 ? 1U : 2U));
          return y;
        };
        results.push_back(run_pool(build, {2, channels, 6, 7}));
      }
      CHECK(results[1].y.same_bits(results[0].y));
      CHECK(testing::difference(results[1].dx, results[0].dx) == 0.0);
    }
  }
}

TEST_CASE("avg_pool2d: means and their gradients agree with the definition, padding being zeros") {
  for (const Pool2d& s : settings()) {
    for (const Shape& shape : shapes()) {
      CAPTURE(to_string(s));
      CAPTURE(to_string(shape));
      const Pooled got = run_pool([&](Tensor x) { return avg_pool2d(x, s); }, shape);
      const auto size = static_cast<float>(s.size[0] * s.size[1]);
      Value y(got.y.spec), dx(got.x.spec);
      std::ranges::fill(dx.as<float>(), 0.0F);
      each_window(got.x, got.y.spec.shape, s, [&](std::size_t i, const auto& places) {
        double sum = 0.0;
        for (const std::int64_t place : places) {
          if (place < 0) continue;
          sum += got.x.as<float>()[static_cast<std::size_t>(place)];
          dx.as<float>()[static_cast<std::size_t>(place)] += got.dy.as<float>()[i] / size;
        }
        y.as<float>()[i] = static_cast<float>(sum / size);
      });
      CHECK(testing::difference(got.y, y) < 1e-6);
      CHECK(testing::difference(got.dx, dx) < 1e-6);
    }
  }
}

TEST_CASE("global_avg_pool2d: is the mean of each channel") {
  const Pooled got = run_pool(global_avg_pool2d, {2, 3, 20, 17});
  CHECK(got.y.spec.shape == Shape{2, 3, 1, 1});
  double sum = 0.0;
  for (std::size_t i = 0; i < 340; ++i) sum += got.x.as<float>()[i];
  CHECK(got.y.as<float>()[0] == doctest::Approx(sum / 340));
  CHECK(got.dx.as<float>()[339] == doctest::Approx(got.dy.as<float>()[0] / 340));
}

TEST_CASE("pools: backward agrees with central differences") {
  const Pool2d overlapping{{3, 3}, {2, 2}, {1, 1}};
  const auto max = [&](Tensor x) { return max_pool2d(x, overlapping); };
  const auto avg = [&](Tensor x) { return avg_pool2d(x, overlapping); };
  for (const Shape& shape : {Shape{1, 1, 3, 3}, Shape{2, 3, 5, 6}, Shape{2, 17, 4, 4}}) {
    CAPTURE(to_string(shape));
    CHECK(testing::gradient_gap([](Tensor x) { return max_pool2d(x); }, shape, 1) < 1e-3);
    CHECK(testing::gradient_gap(max, shape, 2) < 1e-3);
    CHECK(testing::gradient_gap(avg, shape, 3) < 1e-3);
    CHECK(testing::gradient_gap(global_avg_pool2d, shape, 4) < 1e-3);
  }
}

TEST_CASE("pools: the errors name values and the remedy") {
  Graph graph;
  const Tensor x = graph.input({{8, 3, 5, 5}}, "x"), matrix = graph.input({{8, 3}}, "m");
  CHECK_THROWS_WITH_AS(max_pool2d(matrix),
                       "max_pool2d: x [8, 3] has 2 axes; reshape it to [batch, channels, height, "
                       "width]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(global_avg_pool2d(matrix),
                       "global_avg_pool2d: x [8, 3] has 2 axes; reshape it to [batch, channels, "
                       "height, width]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(max_pool2d(x, {{17, 2}, {2, 2}, {0, 0}}),
                       "max_pool2d: size [17, 2] is above 16; pool twice with smaller windows",
                       ArgumentError);
  CHECK_THROWS_WITH_AS(avg_pool2d(x, {{2, 2}, {2, 2}, {0, 2}}),
                       "avg_pool2d: padding [0, 2] is more than half of size [2, 2]; pad less",
                       ArgumentError);
  CHECK_THROWS_WITH_AS(max_pool2d(x, {{2, 7}, {2, 2}, {0, 0}}),
                       "max_pool2d: windows span 7 columns but x [8, 3, 5, 5] has 5 with padding "
                       "0; pad more or make windows smaller",
                       ShapeError);
  CHECK_THROWS_WITH_AS(avg_pool2d(x, {{2, 2}, {2, 0}, {0, 0}}),
                       "avg_pool2d: stride [2, 0] must be at least 1", ArgumentError);
  CHECK_THROWS_AS(avg_pool2d(x, {{0, 2}, {2, 2}, {0, 0}}), ArgumentError);
  CHECK_THROWS_AS(avg_pool2d(x, {{2, 2}, {2, 2}, {-1, 0}}), ArgumentError);
}

}  // namespace
}  // namespace poolgrad

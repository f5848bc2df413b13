// conv2d against seven loops in f64, by oneDNN where it is there and by unfolding always.
#include "engine/ops/conv2d.h"

#include <doctest/doctest.h>

#include "engine/autograd.h"
#include "engine/passes/passes.h"
#include "tests/engine/gradient.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using testing::Evaluation, testing::Value;

struct Case {
  Shape x, weight;
  Conv2d settings;
};

std::string to_string(const Case& c) {
  const Conv2d& s = c.settings;
  return text("x ", c.x, " weight ", c.weight, " stride ", s.stride[0], " ", s.stride[1],
              " padding ", s.padding[0], " ", s.padding[1], " dilation ", s.dilation[0], " ",
              s.dilation[1], " groups ", s.groups);
}

/// Every setting with every other that it could disturb; channels on both sides of vectors and
/// blocks.
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::int32_t stride : {1, 2, 3}) {
    for (const std::int32_t padding : {0, 1, 2}) {
      for (const std::int32_t dilation : {1, 2}) {
        all.push_back({{2, 3, 9, 8}, {4, 3, 3, 3}, {{stride, 1}, {padding, 1}, {dilation, 1}}});
        all.push_back({{2, 4, 8, 9}, {6, 2, 3, 2}, {{1, stride}, {0, padding}, {1, dilation}, 2}});
      }
    }
  }
  for (const std::int64_t channels : {1, 2, 7, 8, 15, 16, 17, 32, 33}) {
    all.push_back({{2, channels, 6, 5}, {channels, channels, 3, 3}, {{1, 1}, {1, 1}}});
    all.push_back({{2, 1, 7, 7}, {channels, 1, 3, 3}, {{1, 1}, {1, 1}}});
    all.push_back({{3, channels, 5, 4}, {3, channels, 1, 1}, {}});
    all.push_back({{2, channels, 8, 8}, {16, channels, 1, 1}, {{2, 2}}});
    all.push_back({{2, 16, 8, 8}, {channels, 16, 1, 1}, {{2, 2}}});
    all.push_back({{2, channels, 5, 6},  // depthwise
                   {channels, 1, 3, 3},
                   {{2, 1}, {1, 1}, {1, 1}, static_cast<std::int32_t>(channels)}});
  }
  all.push_back({{1, 1, 1, 1}, {1, 1, 1, 1}, {}});
  all.push_back({{2, 2, 3, 3}, {2, 2, 1, 1}, {{1, 1}, {2, 2}}});  // padding wider than the kernel
  all.push_back({{2, 3, 4, 4}, {5, 3, 4, 4}, {}});                // kernel as large as the image
  all.push_back({{2, 2, 5, 5}, {2, 2, 5, 5}, {{1, 1}, {2, 2}}});
  all.push_back({{1, 3, 11, 2}, {2, 3, 5, 1}, {{3, 2}, {1, 0}, {2, 1}}});
  all.push_back({{2, 16, 14, 14}, {32, 8, 3, 3}, {{1, 1}, {1, 1}, {1, 1}, 2}});
  all.push_back({{40, 8, 12, 12}, {16, 8, 3, 3}, {{1, 1}, {1, 1}}});  // several blocks
  return all;
}

struct Result {
  Value y, dx, dweight, dbias;
};

std::size_t at(const Shape& s, std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) {
  return static_cast<std::size_t>(((a * s[1] + b) * s[2] + c) * s[3] + d);
}

/// Seven loops, in f64.
Result by_loops(const Case& c, const Value& x, const Value& weight, const Value& bias,
                const Value& dy) {
  const Shape &xs = c.x, &ws = c.weight, &ys = dy.spec.shape;
  const Conv2d& s = c.settings;
  std::vector<double> y(dy.as<float>().size()), dx(x.as<float>().size()),
      dw(weight.as<float>().size()), db(bias.as<float>().size());
  const std::int64_t out = ws[0] / s.groups;
  for (std::int64_t n = 0; n < ys[0]; ++n) {
    for (std::int64_t o = 0; o < ys[1]; ++o) {
      for (std::int64_t oy = 0; oy < ys[2]; ++oy) {
        for (std::int64_t ox = 0; ox < ys[3]; ++ox) {
          const std::size_t to = at(ys, n, o, oy, ox);
          const double slope = dy.as<float>()[to];
          y[to] += bias.as<float>()[static_cast<std::size_t>(o)];
          db[static_cast<std::size_t>(o)] += slope;
          for (std::int64_t i = 0; i < ws[1]; ++i) {
            for (std::int64_t ky = 0; ky < ws[2]; ++ky) {
              for (std::int64_t kx = 0; kx < ws[3]; ++kx) {
                const std::int64_t iy = oy * s.stride[0] - s.padding[0] + ky * s.dilation[0];
                const std::int64_t ix = ox * s.stride[1] - s.padding[1] + kx * s.dilation[1];
                if (iy < 0 || iy >= xs[2] || ix < 0 || ix >= xs[3]) continue;
                const std::size_t from = at(xs, n, o / out * ws[1] + i, iy, ix);
                const std::size_t w = at(ws, o, i, ky, kx);
                y[to] += static_cast<double>(x.as<float>()[from]) * weight.as<float>()[w];
                dx[from] += slope * weight.as<float>()[w];
                dw[w] += slope * x.as<float>()[from];
              }
            }
          }
        }
      }
    }
  }
  const auto value = [](const Shape& shape, const std::vector<double>& values) {
    const std::vector<float> rounded(values.begin(), values.end());
    return testing::floats(shape, rounded);
  };
  return {value(ys, y), value(xs, dx), value(ws, dw), value({ws[0]}, db)};
}

Value channels_last(const Value& value) {
  Value result(value.spec);
  result.spec.layout = Layout::channels_last;
  const Shape& s = value.spec.shape;
  std::size_t to = 0;
  for (std::int64_t n = 0; n < s[0]; ++n) {
    for (std::int64_t h = 0; h < s[2]; ++h) {
      for (std::int64_t w = 0; w < s[3]; ++w) {
        for (std::int64_t c = 0; c < s[1]; ++c)
          result.as<float>()[to++] = value.as<float>()[at(s, n, c, h, w)];
      }
    }
  }
  return result;
}

TEST_CASE("conv2d: forward and every gradient agree with seven loops, by both implementations") {
  for (const Case& c : cases()) {
    CAPTURE(to_string(c));
    Graph graph;
    const Tensor x = graph.parameter(c.x, {}, "x"),
                 weight = graph.parameter(c.weight, {}, "weight"),
                 bias = graph.parameter({c.weight[0]}, {}, "bias");
    const Tensor y = conv2d(x, weight, bias, c.settings);
    const Tensor bare = conv2d(x, weight, {}, c.settings);
    const std::int64_t count = y.shape().count();
    const Tensor slopes = graph.input({{count, 1}}, "slopes", false),
                 one = graph.input({{}}, "one");
    const std::vector<Tensor> wanted{x, weight, bias};
    const auto loss = [&](Tensor z) { return reshape(matmul(reshape(z, {1, count}), slopes), {}); };
    const auto grads = differentiate(loss(y), wanted, one);
    const auto bare_grads = differentiate(loss(bare), wanted, one);
    REQUIRE(!bare_grads[2]);
    Evaluation run(graph);
    run.set(x, testing::spread(c.x.count(), 1, 2.0F / static_cast<float>(c.x.count())));
    run.set(weight,
            testing::spread(c.weight.count(), 2, 1.0F / static_cast<float>(c.weight.count())));
    run.set(bias, testing::spread(c.weight[0], 3));
    run.set(slopes, testing::spread(count, 4, 1.0F / static_cast<float>(count)));
    run.set(one, std::vector{1.0F});
    run.run();
    const Value dy = testing::floats(y.shape(), run[slopes].as<float>());
    const Result expected = by_loops(c, run[x], run[weight], run[bias], dy);
    CHECK(testing::difference(run[y], expected.y) < 1e-5);
    CHECK(testing::difference(run[grads[0]], expected.dx) < 1e-5);
    CHECK(testing::difference(run[grads[1]], expected.dweight) < 1e-5);
    CHECK(testing::difference(run[grads[2]], expected.dbias) < 1e-5);
    CHECK(testing::difference(run[bare_grads[0]], expected.dx) < 1e-5);
    CHECK(testing::difference(run[bare_grads[1]], expected.dweight) < 1e-5);

    Spec image{c.x}, out{y.shape()};
    image.layout = out.layout = Layout::channels_last;
    const convolution::Problem p{c.settings, image, {c.weight}, out, true};
    const Value in = channels_last(run[x]), dout = channels_last(dy);
    const auto made =
        testing::run_kernel(convolution::forward_unfolded(p), {in, run[weight], run[bias]}, {out});
    CHECK(testing::difference(made[0], expected.y) < 1e-5);
    const auto dx =
        testing::run_kernel(convolution::data_unfolded(p), {dout, run[weight]}, {image});
    CHECK(testing::difference(dx[0], expected.dx) < 1e-5);
    const auto dp = testing::run_kernel(convolution::weights_unfolded(p, false), {in, dout},
                                        {{c.weight}, {{c.weight[0]}}});
    CHECK(testing::difference(dp[0], expected.dweight) < 1e-5);
    CHECK(testing::difference(dp[1], expected.dbias) < 1e-5);
  }
}

TEST_CASE("conv2d: backward agrees with central differences in every operand") {
  const auto build = [](const Conv2d& settings) {
    return [settings](std::span<const Tensor> x) { return conv2d(x[0], x[1], x[2], settings); };
  };
  const Conv2d strided{{2, 1}, {1, 1}, {1, 2}}, grouped{{1, 1}, {1, 0}, {1, 1}, 2};
  CHECK(testing::gradient_gap(build({}), {{2, 3, 5, 4}, {2, 3, 3, 2}, {2}}, 1, 0.02F) < 1e-3);
  CHECK(testing::gradient_gap(build(strided), {{2, 2, 6, 7}, {3, 2, 3, 3}, {3}}, 2, 0.02F) < 1e-3);
  CHECK(testing::gradient_gap(build(grouped), {{2, 4, 5, 5}, {4, 2, 3, 3}, {4}}, 3, 0.02F) < 1e-3);
}

TEST_CASE("conv2d: with its ReLU fused it gives the same values and gradients") {
  for (const std::int32_t groups : {1, 3}) {
    std::vector<std::vector<Value>> results;
    for (const bool fuse : {false, true}) {
      Graph graph;
      const Shape shape{3, 6, 7, 7}, kernel{9, 6 / groups, 3, 3};
      const Tensor x = graph.parameter(shape, {}, "x"), w = graph.parameter(kernel, {}, "w"),
                   b = graph.parameter({9}, {}, "b");
      const Tensor y = relu(conv2d(x, w, b, {.padding = {1, 1}, .groups = groups}));
      const std::int64_t count = y.shape().count();
      const Tensor slopes = graph.input({{count, 1}}, "slopes", false),
                   one = graph.input({{}}, "one");
      const Tensor loss = reshape(matmul(reshape(y, {1, count}), slopes), {});
      if (fuse) passes::fuse(graph);
      REQUIRE(graph.nodes.size() == (fuse ? 4U : 5U));
      const std::vector<Tensor> wanted{x, w, b};
      const auto grads = differentiate(loss, wanted, one);
      Evaluation run(graph);
      run.set(x, testing::spread(shape.count(), 1, 0.01F));
      run.set(w, testing::spread(kernel.count(), 2, 0.01F));
      run.set(b, testing::spread(9, 3));
      run.set(slopes, testing::spread(count, 4, 0.01F));
      run.set(one, std::vector{1.0F});
      run.run();
      results.push_back({run[y], run[grads[0]], run[grads[1]], run[grads[2]]});
    }
    for (std::size_t i = 0; i < 4; ++i) {
      CAPTURE(i);
      CHECK(testing::difference(results[1][i], results[0][i]) < 1e-5);
    }
  }
}

TEST_CASE("conv2d: the errors name values and the remedy") {
  Graph graph;
  const auto input = [&](const Shape& shape) { return graph.input({shape}, "x"); };
  const Tensor x = input({8, 3, 32, 32}), weight = input({16, 3, 5, 5});
  CHECK_THROWS_WITH_AS(conv2d(input({32, 784}), weight),
                       "conv2d: x [32, 784] has 2 axes; reshape it to [batch, channels, height, "
                       "width]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(
      conv2d(x, input({16, 3, 5})),
      "conv2d: weight [16, 3, 5] has 3 axes; it must be [out, in / groups, height, "
      "width]",
      ShapeError);
  CHECK_THROWS_WITH_AS(conv2d(x, input({16, 4, 5, 5})),
                       "conv2d: x [8, 3, 32, 32] has 3 channels but weight [16, 4, 5, 5] takes 4 "
                       "with groups 1; make them equal",
                       ShapeError);
  CHECK_THROWS_WITH_AS(conv2d(x, input({16, 1, 5, 5}), {}, {.groups = 3}),
                       "conv2d: weight [16, 1, 5, 5] gives 16 channels, which groups 3 do not "
                       "divide; use a multiple",
                       ShapeError);
  CHECK_THROWS_WITH_AS(
      conv2d(x, weight, input({3})),
      "conv2d: bias [3] of float32 does not fit weight [16, 3, 5, 5]; make it [16] "
      "of float32",
      ShapeError);
  CHECK_THROWS_WITH_AS(conv2d(input({8, 3, 4, 32}), weight, {}, {.dilation = {2, 1}}),
                       "conv2d: windows span 9 rows but x [8, 3, 4, 32] has 4 with padding 0; pad "
                       "more or make windows smaller",
                       ShapeError);
  CHECK_THROWS_WITH_AS(conv2d(x, weight, {}, {.stride = {0, 1}}),
                       "conv2d: stride [0, 1] must be at least 1", ArgumentError);
  CHECK_THROWS_WITH_AS(conv2d(x, weight, {}, {.padding = {0, -1}}),
                       "conv2d: padding [0, -1] must be at least 0", ArgumentError);
  CHECK_THROWS_WITH_AS(conv2d(x, weight, {}, {.groups = 0}), "conv2d: groups 0 must be at least 1",
                       ArgumentError);
  CHECK_THROWS_AS(conv2d(graph.input({{8, 3, 32, 32}, DType::f64}, "x"), weight), ShapeError);
}

}  // namespace
}  // namespace poolgrad

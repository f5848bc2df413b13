// batch_norm against its definition in f64: values, gradients, running statistics; whole and short
// batches; with a ReLU fused into it.
#include <algorithm>
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
using Numbers = std::vector<double>;

/// What one step gives, by definition or by the ops.
struct Result {
  Numbers y, dx, dweight, dbias, mean, variance;
};

struct Problem {
  Shape shape;
  std::int64_t rows = 0;
  bool relu = false;
  std::vector<float> x, weight, bias, dy;
  BatchNorm settings{};

  Problem(const Shape& s, std::int64_t counting, bool with_relu, float offset = 0.0F)
      : shape(s), rows(counting), relu(with_relu) {
    x = testing::spread(s.count(), 1, 2.0F / static_cast<float>(s.count()));
    for (float& value : x) value += offset;
    weight = testing::spread(s[1], 2, 0.3F);
    bias = testing::spread(s[1], 3, 0.2F);
    dy = testing::spread(s.count(), 4, 1.0F / static_cast<float>(s.count()));
    if (s[0] == rows) return;
    const auto counted = static_cast<std::size_t>(rows * s.count() / s[0]);
    std::fill(x.begin() + static_cast<std::ptrdiff_t>(counted), x.end(), 1e6F);
  }
  [[nodiscard]] std::size_t at(std::int64_t n, std::int64_t c, std::int64_t pixel) const {
    return static_cast<std::size_t>((n * shape[1] + c) * shape[2] * shape[3] + pixel);
  }
};

template <typename F>
void each_value(const Problem& p, std::int64_t channel, const F& visit) {
  for (std::int64_t n = 0; n < p.rows; ++n) {
    for (std::int64_t pixel = 0; pixel < p.shape[2] * p.shape[3]; ++pixel)
      visit(p.at(n, channel, pixel));
  }
}

/// Running statistics began as 0 and 1.
Result by_definition(const Problem& p) {
  const auto channels = static_cast<std::size_t>(p.shape[1]);
  Result r{Numbers(p.x.size()), Numbers(p.x.size()), Numbers(channels),
           Numbers(channels),   Numbers(channels),   Numbers(channels)};
  const auto count = static_cast<double>(p.rows * p.shape[2] * p.shape[3]);
  for (std::size_t c = 0; c < channels; ++c) {
    const auto channel = static_cast<std::int64_t>(c);
    double mean = 0.0, variance = 0.0, dy_mean = 0.0, product_mean = 0.0;
    each_value(p, channel, [&](std::size_t i) { mean += p.x[i] / count; });
    each_value(p, channel,
               [&](std::size_t i) { variance += (p.x[i] - mean) * (p.x[i] - mean) / count; });
    const double rstd = 1.0 / std::sqrt(variance + p.settings.epsilon);
    const auto normal = [&](std::size_t i) { return (p.x[i] - mean) * rstd; };
    const auto line = [&](std::size_t i) { return normal(i) * p.weight[c] + p.bias[c]; };
    const auto dy = [&](std::size_t i) { return p.relu && line(i) <= 0.0 ? 0.0 : p.dy[i]; };
    each_value(p, channel, [&](std::size_t i) {
      r.y[i] = p.relu ? std::max(line(i), 0.0) : line(i);
      dy_mean += dy(i) / count;
      product_mean += dy(i) * normal(i) / count;
    });
    each_value(p, channel, [&](std::size_t i) {
      r.dx[i] = p.weight[c] * rstd * (dy(i) - dy_mean - normal(i) * product_mean);
    });
    r.dbias[c] = dy_mean * count;
    r.dweight[c] = product_mean * count;
    r.mean[c] = p.settings.momentum * mean;
    r.variance[c] =
        1.0 - p.settings.momentum + p.settings.momentum * variance * count / (count - 1.0);
  }
  return r;
}

Numbers numbers(const Value& value) {
  const auto floats = value.as<float>();
  return {floats.begin(), floats.end()};
}

/// A graph with batch norm and perhaps ReLU, its gradient, and the values of all tensors.
struct Step {
  Graph graph;
  Tensor x, weight, bias, y, moved;
  std::vector<Tensor> grads;
  RunningStatistics running;
  Evaluation run{graph};

  Step(const Problem& p, bool fuse) {
    const std::int64_t channels = p.shape[1];
    x = graph.parameter(p.shape, {}, "x");
    weight = graph.parameter({channels}, {}, "weight");
    bias = graph.parameter({channels}, {}, "bias");
    running = {graph.state({{channels}}, {}, "mean", "statistics"),
               graph.state({{channels}}, {}, "variance", "statistics"),
               graph.state({{}, DType::i64}, {}, "batches", "statistics")};
    y = batch_norm(x, weight, bias, running, p.settings);
    if (p.relu) y = relu(y);
    if (fuse) passes::fuse(graph);
    const Tensor dy = graph.input({{p.shape.count(), 1}}, "dy", false);
    const Tensor loss = reshape(matmul(reshape(y, {1, p.shape.count()}), dy), {});
    const Tensor one = graph.input({{}}, "one");
    grads = differentiate(loss, std::vector{x, weight, bias}, one);
    run.set(x, p.x);
    run.set(weight, p.weight);
    run.set(bias, p.bias);
    run.set(dy, p.dy);
    run.set(one, std::vector{1.0F});
    run.set(running.mean, std::vector<float>(static_cast<std::size_t>(channels), 0.0F));
    run.set(running.variance, std::vector<float>(static_cast<std::size_t>(channels), 1.0F));
    Value batches(Spec{{}, DType::i64});
    batches.as<std::int64_t>()[0] = 6;
    run.set(running.batches, batches);
    run.set(graph.rows(), testing::scalar(static_cast<std::int32_t>(p.rows)));
    run.run();
  }
  /// What the node with this name makes as output `i`.
  [[nodiscard]] const Value& made(std::string_view op, std::size_t i) {
    for (const Node& node : graph.nodes) {
      if (node.op->name == op) return run[graph.handle(node.outputs[i])];
    }
    throw std::logic_error("no such node");
  }
  [[nodiscard]] Result result() {
    return {numbers(run[y]),
            numbers(run[grads[0]]),
            numbers(run[grads[1]]),
            numbers(run[grads[2]]),
            numbers(made("batch_norm_track", 0)),
            numbers(made("batch_norm_track", 1))};
  }
};

/// max |a - b| / max |b|.
double gap(const Numbers& a, const Numbers& b) {
  if (a.size() != b.size()) return INFINITY;
  double worst = 0.0, largest = 1e-6;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i])) return INFINITY;
    worst = std::max(worst, std::abs(a[i] - b[i]));
    largest = std::max(largest, std::abs(b[i]));
  }
  return worst / largest;
}

void check_equal(const Result& got, const Result& expected, double tolerance) {
  CHECK(gap(got.y, expected.y) < tolerance);
  CHECK(gap(got.dx, expected.dx) < tolerance);
  CHECK(gap(got.dweight, expected.dweight) < tolerance);
  CHECK(gap(got.dbias, expected.dbias) < tolerance);
  CHECK(gap(got.mean, expected.mean) < tolerance);
  CHECK(gap(got.variance, expected.variance) < tolerance);
}

TEST_CASE(
    "batch_norm: values, gradients and running statistics agree with f64, in short batches too") {
  for (const std::int64_t channels : {1, 3, 4, 16, 20, 33, 64}) {
    for (const Shape& shape : {Shape{5, channels, 4, 3}, Shape{7, channels, 1, 1}}) {
      for (const std::int64_t rows : {shape[0], std::int64_t{4}}) {
        for (const bool relu : {false, true}) {
          CAPTURE(to_string(shape));
          CAPTURE(rows);
          CAPTURE(relu);
          const Problem problem(shape, rows, relu);
          for (const bool fuse : {false, true})
            check_equal(Step(problem, fuse).result(), by_definition(problem), 2e-5);
        }
      }
    }
  }
}

TEST_CASE("batch_norm: a ReLU fused into it changes no bit of y") {
  for (const std::int64_t channels : {3, 16, 40}) {
    const Problem problem({6, channels, 5, 5}, 5, true);
    Step apart(problem, false), fused(problem, true);
    CHECK(apart.graph.nodes.size() > fused.graph.nodes.size());
    CHECK(apart.run[apart.y].same_bits(fused.run[fused.y]));
  }
}

TEST_CASE("batch_norm: statistics of values far from 0 keep their digits") {
  const Problem problem({8, 16, 14, 14}, 8, false, /*offset=*/300.0F);
  const Result got = Step(problem, false).result(), expected = by_definition(problem);
  CHECK(gap(got.mean, expected.mean) < 1e-6);
  CHECK(gap(got.variance, expected.variance) < 1e-6);
  CHECK(gap(got.y, expected.y) < 1e-3);  // x itself has no more digits
}

TEST_CASE("batch_norm: rows that do not count change nothing, and y and dx there are 0") {
  const Problem whole({3, 16, 6, 6}, 3, true);
  Problem padded({5, 16, 6, 6}, 3, true);
  std::copy(whole.x.begin(), whole.x.end(), padded.x.begin());
  std::copy(whole.dy.begin(), whole.dy.end(), padded.dy.begin());
  Step small(whole, true), large(padded, true);
  CHECK(large.run[large.y].rows(0, 3).same_bits(small.run[small.y]));
  CHECK(large.run[large.grads[0]].rows(0, 3).same_bits(small.run[small.grads[0]]));
  CHECK(large.run[large.grads[1]].same_bits(small.run[small.grads[1]]));
  CHECK(large.made("batch_norm_track", 1).same_bits(small.made("batch_norm_track", 1)));
  for (const Tensor& tensor : {large.y, large.grads[0]}) {
    const Value rest = large.run[tensor].rows(3, 5);
    CHECK(std::ranges::count(rest.as<float>(), 0.0F) == rest.spec.shape.count());
  }
}

TEST_CASE("batch_norm: training moves the running statistics once, use does not") {
  Step step(Problem({4, 8, 3, 3}, 4, false), false);
  CHECK(step.made("batch_norm_track", 2).as<std::int64_t>()[0] == 7);
  Graph graph = step.graph.copy();
  const Tensor y = batch_norm_fixed(
      graph.handle(step.x.id), graph.handle(step.weight.id), graph.handle(step.bias.id),
      {graph.handle(step.running.mean.id), graph.handle(step.running.variance.id), {}});
  passes::drop_dead(graph, std::vector{y.id});
  CHECK(graph.nodes.size() == 1);
}

TEST_CASE("batch_norm_fixed: agrees with f64, with and without a fused ReLU") {
  const Problem p({3, 20, 4, 4}, 3, true);
  const std::vector<float> mean = testing::spread(20, 8, 0.02F);
  std::vector<float> variance = testing::spread(20, 9, 0.04F);
  for (float& value : variance) value = std::abs(value);
  for (const bool fuse : {false, true}) {
    Graph graph;
    const Tensor x = graph.input({p.shape}, "x"), weight = graph.parameter({20}, {}, "w"),
                 bias = graph.parameter({20}, {}, "b");
    const RunningStatistics running{graph.state({{20}}, {}, "mean", "statistics"),
                                    graph.state({{20}}, {}, "variance", "statistics"),
                                    {}};
    const Tensor y = relu(batch_norm_fixed(x, weight, bias, running, {.epsilon = 1e-2}));
    if (fuse) passes::fuse(graph);
    CHECK(graph.nodes.size() == (fuse ? 1 : 2));
    Evaluation run(graph);
    run.set(x, p.x);
    run.set(weight, p.weight);
    run.set(bias, p.bias);
    run.set(running.mean, mean);
    run.set(running.variance, variance);
    run.run();
    Numbers expected(p.x.size());
    for (std::size_t c = 0; c < 20; ++c) {
      each_value(p, static_cast<std::int64_t>(c), [&](std::size_t i) {
        const double normal = (p.x[i] - mean[c]) / std::sqrt(variance[c] + 1e-2);
        expected[i] = std::max(normal * p.weight[c] + p.bias[c], 0.0);
      });
    }
    CHECK(gap(numbers(run[y]), expected) < 1e-5);
  }
}

TEST_CASE("batch_norm: backward agrees with central differences") {
  const auto build = [](std::span<const Tensor> in) { return batch_norm(in[0], in[1], in[2]); };
  for (const Shape& shape : {Shape{9, 1, 2, 1}, Shape{3, 5, 2, 2}, Shape{2, 16, 3, 5}}) {
    CAPTURE(to_string(shape));
    const Shape channels{shape[1]};
    CHECK(testing::gradient_gap(build, {shape, channels, channels}, /*seed=*/5) < 5e-3);
  }
}

TEST_CASE("batch_norm: one value per channel is refused, as a shape and as a short batch") {
  CHECK_THROWS_WITH_AS(
      Step(Problem({1, 3, 1, 1}, 1, false), false),
      "batch_norm: x has one value per channel, which has no variance; take a larger batch",
      ShapeError);
  CHECK_THROWS_WITH_AS(
      Step(Problem({2, 3, 1, 1}, 1, false), false),
      "batch_norm: 1 row has one value per channel, which has no variance; feed 2 rows or more",
      ArgumentError);
}

TEST_CASE("batch_norm: the errors name shapes, dtypes and the remedy") {
  Graph graph;
  const Tensor x = graph.input({{8, 3, 4, 4}}, "x"), three = graph.parameter({3}, {}, "three"),
               four = graph.parameter({4}, {}, "four");
  const Tensor count = graph.state({{}, DType::i64}, {}, "count", "statistics");
  CHECK_THROWS_WITH_AS(batch_norm(graph.input({{8, 3}}, "flat"), three, three),
                       "batch_norm: x [8, 3] has 2 axes; reshape it to [batch, channels, height, "
                       "width]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(
      batch_norm(x, four, three),
      "batch_norm: weight [4] of float32 does not fit x [8, 3, 4, 4]; make it [3] of float32",
      ShapeError);
  CHECK_THROWS_WITH_AS(batch_norm(x, three, three, {three, four, count}),
                       "batch_norm: running variance [4] of float32 does not fit x with 3 "
                       "channels; make it [3] of float32",
                       ShapeError);
  CHECK_THROWS_WITH_AS(batch_norm(x, three, three, {three, three, three}),
                       "batch_norm: the number of batches [3] of float32 must be a scalar of int64",
                       ShapeError);
  CHECK_THROWS_WITH_AS(
      batch_norm_fixed(x, three, three, {three, four, {}}),
      "batch_norm: variance [4] of float32 does not fit x [8, 3, 4, 4]; make it [3] of float32",
      ShapeError);
}

}  // namespace
}  // namespace poolgrad

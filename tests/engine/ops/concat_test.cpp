// concat: its definition in both layouts, its gradient, and its errors.
#include <doctest/doctest.h>

#include "engine/ops.h"
#include "engine/program.h"
#include "tests/engine/gradient.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

/// The element of a concatenation of `parts` along `axis` at `index`, by definition.
float expected(const std::vector<testing::Value>& parts, int axis, Shape index) {
  std::size_t p = 0;
  for (; index[axis] >= parts[p].spec.shape[axis]; ++p) index[axis] -= parts[p].spec.shape[axis];
  std::int64_t at = 0;
  for (int a = 0; a < index.rank(); ++a) at = at * parts[p].spec.shape[a] + index[a];
  return parts[p].as<float>()[static_cast<std::size_t>(at)];
}

void check_values(const testing::Value& y, const std::vector<testing::Value>& parts, int axis) {
  const Shape& shape = y.spec.shape;
  for (std::int64_t i = 0; i < shape.count(); ++i) {
    Shape index = shape;
    std::int64_t rest = i;
    for (int a = shape.rank() - 1; a >= 0; --a) index[a] = rest % shape[a], rest /= shape[a];
    REQUIRE(y.as<float>()[static_cast<std::size_t>(i)] == expected(parts, axis, index));
  }
}

/// Shapes of the tensors that are put together along `axis`.
std::vector<Shape> shapes(int rank, int axis) {
  std::vector<Shape> result;
  for (const std::int64_t extent : {3, 1, 5, 2, 4}) {
    constexpr std::array<std::int64_t, 4> kAll{2, 3, 4, 5};
    auto shape = Shape(std::span(kAll).first(static_cast<std::size_t>(rank)));
    shape[axis] = extent;
    result.push_back(shape);
  }
  return result;
}

TEST_CASE("concat: tensors follow each other along any axis, row-major or channels-last") {
  for (const int rank : {1, 2, 3, 4}) {
    for (int axis = 0; axis < rank; ++axis) {
      for (const Layout layout : {Layout::row_major, Layout::channels_last}) {
        if (layout == Layout::channels_last && rank != 4) continue;
        CAPTURE(rank);
        CAPTURE(axis);
        Graph graph;
        std::vector<Tensor> tensors;
        std::vector<testing::Value> parts;
        testing::Evaluation run(graph);
        for (const Shape& shape : shapes(rank, axis)) {
          tensors.push_back(graph.input({shape}, "x"));
          parts.push_back(testing::floats(
              shape, testing::spread(shape.count(), static_cast<unsigned>(parts.size()))));
          run.set(tensors.back(), parts.back());
        }
        if (layout == Layout::channels_last) tensors[0] = reorder(tensors[0], layout);
        const Tensor y = concat(tensors, axis);
        CHECK(y == graph.handle(y.id));
        CHECK(y.shape()[axis] == 15);
        run.run();
        check_values(run[y], parts, axis);
      }
    }
  }
}

TEST_CASE("concat: an axis may be counted from the end") {
  Graph graph;
  const Tensor x = graph.input({{2, 3, 4}}, "x");
  CHECK(concat({x, x}, -1).shape() == Shape{2, 3, 8});
  CHECK(concat({x, x, x}, -3).shape() == Shape{6, 3, 4});
  CHECK(concat({x}, 1).shape() == x.shape());
}

TEST_CASE("concat: backward agrees with central differences") {
  for (const int axis : {0, 1, 2, 3}) {
    CAPTURE(axis);
    const auto all = [&](std::span<const Tensor> x) {
      return concat({x[0], x[1], x[0], x[2], x[3], x[4]}, axis);
    };
    CHECK(testing::gradient_gap(all, shapes(4, axis), /*seed=*/7) < 1e-3);
  }
}

TEST_CASE("concat: parts and passes change no bit") {
  Graph graph;
  const Tensor a = graph.parameter({64, 8, 12, 12}, Init::kaiming_uniform(1, 1), "a");
  const Tensor b = graph.parameter({64, 3, 12, 12}, Init::kaiming_uniform(1, 1), "b");
  const Tensor y = relu(concat({relu(a), max_pool2d(b, {{3, 3}, {1, 1}, {1, 1}}), b}, 1));
  const auto values = [&](const Options& options) {
    Program program = compile(graph, {{"all", {y}}}, options);
    program.run("all");
    const auto view = program.view(y).as<float>();
    return std::vector<float>(view.begin(), view.end());
  };
  const std::vector<float> whole = values({});
  CHECK(values({.threads = 3, .chunks = 4}) == whole);
  CHECK(values({.layout = false}) == whole);
  CHECK(values({.threads = 2, .layout = false}) == whole);
}

TEST_CASE("concat: errors name the shapes and the axis") {
  Graph graph;
  const Tensor x = graph.input({{4, 3, 8, 8}}, "x"), small = graph.input({{4, 3, 4, 4}}, "small");
  CHECK_THROWS_WITH_AS(concat({x, small}, 1),
                       "concat: [4, 3, 4, 4] of float32 does not go on [4, 3, 8, 8] of float32; "
                       "tensors may differ in axis 1 only",
                       ShapeError);
  CHECK_THROWS_WITH_AS(concat({x, x}, -5),
                       "concat: [4, 3, 8, 8] has 4 axes; axis -5 is none of them", ShapeError);
  CHECK_THROWS_WITH_AS(concat({x, x}, 4), "concat: [4, 3, 8, 8] has 4 axes; axis 4 is none of them",
                       ShapeError);
  CHECK_THROWS_WITH_AS(concat({}, 1), "concat: there are no tensors; give at least one",
                       ShapeError);
}

}  // namespace
}  // namespace poolgrad

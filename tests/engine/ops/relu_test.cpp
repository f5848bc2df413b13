// relu against its definition.
#include "engine/ops/relu.h"

#include <algorithm>
#include <cmath>

#include <doctest/doctest.h>

#include "engine/ops.h"
#include "tests/engine/gradient.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using testing::Evaluation;

TEST_CASE("relu: negative values become 0, others and NaN stay") {
  Graph graph;
  const Tensor x = graph.input({{6}}, "x");
  const Tensor y = relu(x);
  Evaluation run(graph);
  run.set(x, std::vector{-1.0F, 0.0F, 2.5F, -INFINITY, INFINITY, NAN});
  run.run();
  const auto values = run[y].as<float>();
  CHECK(std::vector(values.begin(), values.begin() + 5) ==
        std::vector{0.0F, 0.0F, 2.5F, 0.0F, INFINITY});
  CHECK(std::isnan(values[5]));
}

TEST_CASE("relu: backward agrees with central differences") {
  for (const Shape& shape : {Shape{1}, Shape{3, 5}, Shape{2, 3, 4, 4}, Shape{1, 67}}) {
    CAPTURE(to_string(shape));
    CHECK(testing::gradient_gap(relu, shape, /*seed=*/7) < 1e-3);
  }
}

TEST_CASE("relu: where y is 0 no gradient passes") {
  Graph graph;
  const Tensor y = graph.input({{3}}, "y"), dy = graph.input({{3}}, "dy");
  const Tensor dx = relu_grad(y, dy);
  Evaluation run(graph);
  run.set(y, std::vector{0.0F, 1.0F, 0.0F});
  run.set(dy, std::vector{5.0F, 6.0F, NAN});
  run.run();
  CHECK(run[dx].as<float>()[0] == 0.0F);
  CHECK(run[dx].as<float>()[1] == 6.0F);
  CHECK(run[dx].as<float>()[2] == 0.0F);
}

TEST_CASE("relu: by signs the gradient has the same bits, for any number of values in a row") {
  for (const Shape& shape : {Shape{1}, Shape{3, 5}, Shape{4, 16}, Shape{2, 3, 5, 7}}) {
    CAPTURE(to_string(shape));
    Graph graph;
    const Tensor y = graph.input({shape}, "y"), dy = graph.input({shape}, "dy");
    const Tensor signs = relu_signs(y);
    const Tensor plain = relu_grad(y, dy), by_signs = relu_grad_by_signs(signs, dy);
    CHECK(signs.shape()[0] == shape[0]);
    CHECK(signs.shape()[1] == (shape.count() / shape[0] + 7) / 8);
    std::vector<float> values = testing::spread(shape.count(), 3);
    values[0] = NAN;
    Evaluation run(graph);
    run.set(y, values);
    run.set(dy, testing::spread(shape.count(), 4));
    run.run();
    const auto expected = run[plain].as<float>(), found = run[by_signs].as<float>();
    CHECK(std::ranges::equal(expected, found));
  }
}

TEST_CASE("relu: the error names the dtype and the remedy") {
  Graph graph;
  CHECK_THROWS_WITH_AS(relu(graph.input({{4}, DType::i64}, "x")),
                       "relu: x [4] is int64; kernels take float32, convert it first", ShapeError);
}

}  // namespace
}  // namespace poolgrad

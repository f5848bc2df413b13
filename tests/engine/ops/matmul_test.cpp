// matmul and linear against sums in f64, over sizes on both sides of every choice of a kernel.
#include <doctest/doctest.h>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/passes/passes.h"
#include "tests/engine/gradient.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using testing::Evaluation, testing::Value;

struct Size {
  std::int64_t m, n, k;
};
std::string to_string(const Size& size) { return text(size.m, " x ", size.n, " x ", size.k); }

// Vectors, odd sizes, and products large enough for oneDNN, also turned, and for several blocks of
// Eigen.
const std::vector<Size> kSizes{{1, 1, 1},      {1, 7, 3},    {5, 1, 9},
                               {3, 4, 5},      {17, 33, 29}, {64, 10, 128},
                               {130, 70, 300}, {23, 77, 91}, {300, 260, 520}};

Value expected(const Value& left, const Value& right, bool transpose, const Value* bias) {
  const std::int64_t m = left.spec.shape[0], k = left.spec.shape[1];
  const std::int64_t n = right.spec.shape[transpose ? 0 : 1];
  const auto a = left.as<float>(), b = right.as<float>();
  Value result(Spec{{m, n}});
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = bias == nullptr ? 0.0 : bias->as<float>()[static_cast<std::size_t>(j)];
      for (std::int64_t l = 0; l < k; ++l) {
        sum += static_cast<double>(a[static_cast<std::size_t>(i * k + l)]) *
               b[static_cast<std::size_t>(transpose ? j * k + l : l * n + j)];
      }
      result.as<float>()[static_cast<std::size_t>(i * n + j)] = static_cast<float>(sum);
    }
  }
  return result;
}

TEST_CASE("matmul: agrees with sums in f64, transposed or not, with and without bias") {
  for (const Size& size : kSizes) {
    for (const bool transpose : {false, true}) {
      for (const bool with_bias : {false, true}) {
        CAPTURE(text(size, " ", transpose, with_bias));
        const auto [m, n, k] = size;
        Graph graph;
        const Shape stored = transpose ? Shape{n, k} : Shape{k, n};
        const Tensor left = graph.input({{m, k}}, "left"), right = graph.input({stored}, "right");
        const Tensor bias = graph.input({{n}}, "bias");
        const Tensor y = matmul(left, right, with_bias ? bias : Tensor{}, transpose);
        Evaluation run(graph);
        run.set(left, testing::spread(m * k, 1, 1.0F / static_cast<float>(m * k)));
        run.set(right, testing::spread(k * n, 2, 1.0F / static_cast<float>(k * n)));
        run.set(bias, testing::spread(n, 3));
        run.run();
        const Value* b = with_bias ? &run[bias] : nullptr;
        CHECK(testing::difference(run[y], expected(run[left], run[right], transpose, b)) < 1e-6);
      }
    }
  }
}

TEST_CASE("matmul: backward agrees with central differences in every operand") {
  const auto product = [](std::span<const Tensor> x) { return matmul(x[0], x[1]); };
  const auto transposed = [](std::span<const Tensor> x) { return matmul(x[0], x[1], x[2], true); };
  const auto layer = [](std::span<const Tensor> x) { return linear(x[0], x[1]); };
  for (const Size& size : std::vector<Size>{{1, 1, 1}, {4, 3, 5}, {33, 17, 20}}) {
    CAPTURE(to_string(size));
    const auto [m, n, k] = size;
    CHECK(testing::gradient_gap(product, {{m, k}, {k, n}}, 1, 0.01F) < 1e-3);
    CHECK(testing::gradient_gap(transposed, {{m, k}, {n, k}, {n}}, 2, 0.01F) < 1e-3);
    CHECK(testing::gradient_gap(layer, {{m, k}, {n, k}}, 3, 0.01F) < 1e-3);
  }
}

Value transposed(const Value& value) {
  const std::int64_t rows = value.spec.shape[0], columns = value.spec.shape[1];
  Value result(Spec{{columns, rows}});
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    result.as<float>()[static_cast<std::size_t>(i % columns * rows + i / columns)] =
        value.as<float>()[static_cast<std::size_t>(i)];
  }
  return result;
}

TEST_CASE("matmul: gradients agree with sums in f64") {
  for (const Size& size : kSizes) {
    CAPTURE(to_string(size));
    const auto [m, n, k] = size;
    Graph graph;
    const Tensor x = graph.parameter({m, k}, {}, "x"), w = graph.parameter({n, k}, {}, "w"),
                 b = graph.parameter({n}, {}, "b");
    const Tensor slopes = graph.input({{m * n, 1}}, "slopes", false),
                 one = graph.input({{}}, "one");
    const Tensor y = linear(x, w, b);
    const Tensor loss = reshape(matmul(reshape(y, {1, m * n}), slopes), {});
    const std::vector<Tensor> wanted{x, w, b};
    const auto grads = differentiate(loss, wanted, one);
    Evaluation run(graph);
    run.set(x, testing::spread(m * k, 1, 1.0F / static_cast<float>(m * k)));
    run.set(w, testing::spread(n * k, 2, 1.0F / static_cast<float>(n * k)));
    run.set(b, testing::spread(n, 3));
    run.set(slopes, testing::spread(m * n, 4, 1.0F / static_cast<float>(m * n)));
    run.set(one, std::vector{1.0F});
    run.run();
    const Value dy = testing::floats({m, n}, run[slopes].as<float>());
    const Value ones =
        testing::floats({1, m}, std::vector<float>(static_cast<std::size_t>(m), 1.0F));
    Value db = expected(ones, dy, false, nullptr);
    db.spec.shape = {n};
    CHECK(testing::difference(run[grads[0]], expected(dy, run[w], false, nullptr)) < 1e-6);
    CHECK(testing::difference(run[grads[1]], expected(transposed(dy), run[x], false, nullptr)) <
          1e-6);
    CHECK(testing::difference(run[grads[2]], db) < 1e-6);
  }
}

TEST_CASE("matmul: gradients of gradients' products have gradients too") {
  // The gradient of the weight is a product with left transposed; differentiate that once more.
  const auto build = [](std::span<const Tensor> x) {
    Graph& graph = *x[0].graph;
    const Tensor y = matmul(x[0], x[1]);
    const Tensor column = graph.parameter({4, 1}, Init::constant(1), "ones"),
                 line = graph.parameter({1, 3}, Init::constant(1), "ones");
    return reshape(matmul(matmul(line, y), column), {});
  };
  Graph graph;
  const std::vector<Tensor> x{graph.parameter({3, 5}, {}, "x"), graph.parameter({5, 4}, {}, "w")};
  const Tensor one = graph.input({{}}, "one");
  const auto grads = differentiate(build(x), x, one);
  const Tensor size = reshape(matmul(reshape(grads[1], {1, 20}), reshape(x[1], {20, 1})), {});
  const auto second = differentiate(size, x, one);
  CHECK(second[0].shape() == x[0].shape());
  CHECK(second[1].shape() == x[1].shape());
}

TEST_CASE("matmul: with its ReLU fused it gives the same values and gradients") {
  for (const Size& size : kSizes) {
    CAPTURE(to_string(size));
    const auto [m, n, k] = size;
    std::vector<std::vector<Value>> results;
    for (const bool fuse : {false, true}) {
      Graph graph;
      const Tensor x = graph.parameter({m, k}, {}, "x"), w = graph.parameter({n, k}, {}, "w"),
                   b = graph.parameter({n}, {}, "b");
      const Tensor y = relu(linear(x, w, b));
      const Tensor ones = graph.input({{m * n, 1}}, "ones", false), one = graph.input({{}}, "one");
      const Tensor loss = reshape(matmul(reshape(y, {1, m * n}), ones), {});
      if (fuse) passes::fuse(graph);
      REQUIRE(graph.nodes.size() == (fuse ? 4U : 5U));
      const std::vector<Tensor> wanted{x, w, b};
      const auto grads = differentiate(loss, wanted, one);
      Evaluation run(graph);
      run.set(x, testing::spread(m * k, 1, 1.0F / static_cast<float>(m * k)));
      run.set(w, testing::spread(n * k, 2, 1.0F / static_cast<float>(n * k)));
      run.set(b, testing::spread(n, 3));
      run.set(ones, std::vector<float>(static_cast<std::size_t>(m * n), 1.0F));
      run.set(one, std::vector{1.0F});
      run.run();
      results.push_back({run[y], run[grads[0]], run[grads[1]], run[grads[2]]});
    }
    for (std::size_t i = 0; i < 4; ++i) {
      CAPTURE(i);
      CHECK(testing::difference(results[1][i], results[0][i]) < 1e-6);
    }
  }
}

TEST_CASE("matmul: the errors name shapes and the remedy") {
  Graph graph;
  const auto input = [&](const Shape& shape) { return graph.input({shape}, "x"); };
  CHECK_THROWS_WITH_AS(matmul(input({32, 784}), input({128, 10})),
                       "matmul: left [32, 784] has 784 columns but right [128, 10] has 128 rows; "
                       "make them equal or transpose one",
                       ShapeError);
  CHECK_THROWS_WITH_AS(matmul(input({32, 784}), input({128, 10}), {}, true),
                       "matmul: left [32, 784] has 784 columns but right [128, 10], which is "
                       "transposed, has 10; make them equal",
                       ShapeError);
  CHECK_THROWS_WITH_AS(linear(input({32, 784}), input({128, 10})),
                       "linear: x [32, 784] has 784 features but weight [128, 10] takes 10; make "
                       "them equal",
                       ShapeError);
  CHECK_THROWS_WITH_AS(linear(input({32, 1, 28, 28}), input({128, 784})),
                       "linear: x [32, 1, 28, 28] has 4 axes; reshape it to a matrix", ShapeError);
  CHECK_THROWS_WITH_AS(linear(input({32, 784}), input({128, 784}), input({10})),
                       "linear: bias [10] of float32 does not fit weight [128, 784]; make it [128] "
                       "of float32",
                       ShapeError);
  CHECK_THROWS_WITH_AS(matmul(input({2, 3}), graph.input({{3, 4}, DType::f64}, "x")),
                       "matmul: right [3, 4] is float64; kernels take float32, convert it first",
                       ShapeError);
}

}  // namespace
}  // namespace poolgrad

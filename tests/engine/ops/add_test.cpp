// add, of floats and of counts.
#include <doctest/doctest.h>

#include "engine/ops.h"
#include "tests/engine/gradient.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using testing::Evaluation;

TEST_CASE("add: sums elements, of float32 and of int64") {
  Graph graph;
  const Tensor a = graph.input({{3}}, "a"), b = graph.input({{3}}, "b");
  const Tensor i = graph.input({{2}, DType::i64}, "i");
  const Tensor sum = add(a, b), twice = add(i, i);
  Evaluation run(graph);
  run.set(a, std::vector{1.0F, 2.0F, 3.0F});
  run.set(b, std::vector{0.5F, -2.0F, 1e8F});
  run.set(i, testing::labels({std::int64_t{1} << 40, -3}));
  run.run();
  CHECK(run[sum].as<float>()[0] == 1.5F);
  CHECK(run[sum].as<float>()[1] == 0.0F);
  CHECK(run[twice].as<std::int64_t>()[0] == std::int64_t{1} << 41);
  CHECK(run[twice].as<std::int64_t>()[1] == -6);
}

TEST_CASE("add: backward agrees with central differences, also of x + x") {
  const auto both = [](std::span<const Tensor> x) { return add(x[0], x[1]); };
  const auto twice = [](Tensor x) { return add(x, x); };
  for (const Shape& shape : {Shape{1}, Shape{3, 5}, Shape{2, 3, 4, 5}}) {
    CAPTURE(to_string(shape));
    CHECK(testing::gradient_gap(both, {shape, shape}, /*seed=*/3) < 1e-3);
    CHECK(testing::gradient_gap(twice, shape, /*seed=*/4) < 1e-3);
  }
}

TEST_CASE("add: the errors name shapes and dtypes") {
  Graph graph;
  const Tensor a = graph.input({{2, 3}}, "a"), b = graph.input({{3, 2}}, "b");
  const Tensor i = graph.input({{2, 3}, DType::i64}, "i");
  CHECK_THROWS_WITH_AS(
      add(a, b), "add: left [2, 3] and right [3, 2] differ; make their shapes equal", ShapeError);
  CHECK_THROWS_WITH_AS(add(a, i),
                       "add: left is float32 and right is int64; kernels add equal dtypes, "
                       "float32, float64 or int64",
                       ShapeError);
}

}  // namespace
}  // namespace poolgrad

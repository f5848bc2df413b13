// sum_rows against sums in f64.
#include <cmath>

#include <doctest/doctest.h>

#include "engine/ops.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using testing::Evaluation;

TEST_CASE("sum_rows: agrees with sums in f64 for every number of columns") {
  for (const std::int64_t columns : {1, 3, 4, 5, 16, 21, 33, 64, 87}) {
    for (const std::int64_t rows : {1, 63, 64, 65, 200}) {
      CAPTURE(columns);
      CAPTURE(rows);
      Graph graph;
      const Tensor x = graph.input({{rows, columns}}, "x");
      const Tensor sum = sum_rows(x);
      Evaluation run(graph);
      const auto values = testing::spread(rows * columns, /*seed=*/5);
      run.set(x, values);
      run.run();
      REQUIRE(run[sum].spec == Spec{{columns}});
      for (std::int64_t column = 0; column < columns; ++column) {
        double expected = 0.0, size = 1.0;
        for (std::int64_t row = 0; row < rows; ++row) {
          const double value = values[static_cast<std::size_t>(row * columns + column)];
          expected += value;
          size += std::abs(value);
        }
        const double got = run[sum].as<float>()[static_cast<std::size_t>(column)];
        CHECK(std::abs(got - expected) < 1e-6 * size);
      }
    }
  }
}

TEST_CASE("sum_rows: a hundred thousand equal rows lose no more than a few bits") {
  Graph graph;
  const Tensor x = graph.input({{100000, 2}}, "x");
  const Tensor sum = sum_rows(x);
  Evaluation run(graph);
  run.set(x, std::vector<float>(200000, 0.1F));
  run.run();
  CHECK(run[sum].as<float>()[0] == doctest::Approx(10000.0).epsilon(1e-5));
}

TEST_CASE("sum_rows: the error names the shape and the remedy") {
  Graph graph;
  CHECK_THROWS_WITH_AS(sum_rows(graph.input({{4}}, "x")),
                       "sum_rows: x [4] has 1 axes; reshape it to [rows, columns]", ShapeError);
}

}  // namespace
}  // namespace poolgrad

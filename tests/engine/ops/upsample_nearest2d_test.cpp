// upsample_nearest2d: its definition, its gradient, and its errors.
#include <doctest/doctest.h>

#include "engine/ops.h"
#include "tests/engine/gradient.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

TEST_CASE("upsample_nearest2d: every value becomes a window of equal ones") {
  for (const std::int64_t channels : {1, 3, 16, 21}) {
    Graph graph;
    const Tensor x = graph.input({{2, channels, 3, 5}}, "x");
    const Tensor y = upsample_nearest2d(x, {2, 3});
    CHECK(y.shape() == Shape{2, channels, 6, 15});
    testing::Evaluation run(graph);
    const std::vector<float> values = testing::spread(x.shape().count(), 1);
    run.set(x, values);
    run.run();
    std::size_t i = 0;
    for (std::int64_t image = 0; image < 2 * channels; ++image)
      for (std::int64_t row = 0; row < 6; ++row)
        for (std::int64_t column = 0; column < 15; ++column)
          REQUIRE(run[y].as<float>()[i++] ==
                  values[static_cast<std::size_t>((image * 3 + row / 2) * 5 + column / 3)]);
  }
}

TEST_CASE("upsample_nearest2d: backward agrees with central differences") {
  for (const std::array<std::int32_t, 2>& factor :
       {std::array{1, 1}, std::array{2, 2}, std::array{3, 1}, std::array{1, 4}}) {
    for (const std::int64_t channels : {1, 5, 16}) {
      const auto enlarge = [&](Tensor x) { return upsample_nearest2d(x, factor); };
      CHECK(testing::gradient_gap(enlarge, {2, channels, 3, 4}, /*seed=*/7) < 1e-3);
    }
  }
}

TEST_CASE("upsample_nearest2d: errors name the operand and the remedy") {
  Graph graph;
  CHECK_THROWS_WITH_AS(upsample_nearest2d(graph.input({{4, 3}}, "x"), {2, 2}),
                       "upsample_nearest2d: x [4, 3] has 2 axes; reshape it to [batch, channels, "
                       "height, width]",
                       ShapeError);
  CHECK_THROWS_WITH_AS(upsample_nearest2d(graph.input({{1, 1, 2, 2}}, "x"), {0, 2}),
                       "upsample_nearest2d: factor [0, 2] must be at least 1", ArgumentError);
}

}  // namespace
}  // namespace poolgrad

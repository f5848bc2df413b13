// Views: values, gradients and errors. That no bytes move is tested with liveness and programs.
#include <doctest/doctest.h>

#include "engine/liveness.h"
#include "engine/ops.h"
#include "tests/engine/gradient.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using testing::Evaluation;

TEST_CASE("views: reshape and flatten keep the order of elements") {
  Graph graph;
  const Tensor x = graph.input({{2, 3, 2, 2}}, "x");
  const Tensor flat = flatten(x), other = reshape(x, {4, 6});
  CHECK(flat.shape() == Shape{2, 12});
  Evaluation run(graph);
  const auto values = testing::spread(24, /*seed=*/1);
  run.set(x, values);
  run.run();
  CHECK(std::ranges::equal(run[flat].as<float>(), values));
  CHECK(std::ranges::equal(run[other].as<float>(), values));
}

TEST_CASE("views: join undoes slices, pack puts each part on 64 bytes") {
  Graph graph;
  const Tensor x = graph.input({{5, 2}}, "x");
  const Tensor first = slice(x, 0, 2), second = slice(x, 2, 5);
  const Tensor whole = join({first, second}), packed = pack({first, second});
  CHECK(packed.shape() == Shape{32});
  Evaluation run(graph);
  const auto values = testing::spread(10, /*seed=*/1);
  run.set(x, values);
  run.run();
  CHECK(std::ranges::equal(run[whole].as<float>(), values));
  CHECK(run[packed].as<float>()[3] == values[3]);
  CHECK(run[packed].as<float>()[16] == values[4]);
}

TEST_CASE("views: columns of a matrix lie as far apart as before, also those of columns") {
  Graph graph;
  const Tensor x = graph.input({{4, 6}}, "x");
  const Tensor some = slice_columns(x, 1, 5), fewer = slice_columns(some, 1, 3);
  CHECK(fewer.shape() == Shape{4, 2});
  CHECK(fewer.spec().strides() == Shape{6, 1});
  CHECK(fewer.spec().bytes() == (3 * 6 + 2) * sizeof(float));
  const Tensor later = slice(fewer, 3, 4);  // rows of columns
  const Storages storages = assign_storages(graph, false);
  CHECK(storages.begin[static_cast<std::size_t>(later.id)] == (3 * 6 + 2) * sizeof(float));
  CHECK(storages.begin[static_cast<std::size_t>(fewer.id)] == 2 * sizeof(float));
  CHECK(storages.of[static_cast<std::size_t>(fewer.id)] ==
        storages.of[static_cast<std::size_t>(x.id)]);
}

TEST_CASE("views: gradients pass through reshape and after") {
  const auto build = [](std::span<const Tensor> x) {
    return after(reshape(flatten(x[0]), {6, 2}), {x[1]});
  };
  CHECK(testing::gradient_gap(build, {{3, 2, 2}, {4}}, /*seed=*/2) < 1e-3);
}

TEST_CASE("views: errors name shapes, rows and parts") {
  Graph graph;
  const Tensor x = graph.input({{4, 6}}, "x"), y = graph.input({{4, 5}}, "y");
  const Tensor i = graph.input({{4}, DType::i64}, "i"), none = graph.rows();
  CHECK_THROWS_WITH_AS(reshape(x, {5, 5}),
                       "reshape: [4, 6] has 24 elements but [5, 5] has 25; make them equal",
                       ShapeError);
  CHECK_THROWS_WITH_AS(reshape(x, {-4, -6}),
                       "reshape: [-4, -6] has an extent below 1; give every axis", ShapeError);
  CHECK_THROWS_WITH_AS(slice(x, 2, 5),
                       "slice: rows [2, 5) are not in [4, 6]; take at least one of its rows",
                       ShapeError);
  CHECK_THROWS_AS(slice(x, 2, 2), ShapeError);
  CHECK_THROWS_AS(slice(x, -1, 2), ShapeError);
  CHECK_THROWS_AS(slice(none, 0, 1), ShapeError);
  CHECK_THROWS_WITH_AS(slice_columns(x, 2, 7),
                       "slice_columns: columns [2, 7) are not in [4, 6]; take at least one column "
                       "of a matrix",
                       ShapeError);
  CHECK_THROWS_AS(slice_columns(i, 0, 1), ShapeError);
  CHECK_THROWS_AS(slice_columns(x, 3, 3), ShapeError);
  CHECK_THROWS_WITH_AS(join({x, y}),
                       "join: part [4, 5] of float32 does not go on [4, 6] of float32; parts "
                       "differ in axis 0 only",
                       ShapeError);
  CHECK_THROWS_AS(join({none}), ShapeError);
  CHECK_THROWS_WITH_AS(pack({x, i}),
                       "pack: [4] is int64 but the first part is float32; pack one dtype at a time",
                       ShapeError);
  CHECK_THROWS_WITH_AS(pack({}), "pack: there are no parts; give at least one", ShapeError);
  CHECK_THROWS_WITH_AS(
      flatten(none), "flatten: x [] has no axes; it needs a first one, which is kept", ShapeError);
}

}  // namespace
}  // namespace poolgrad

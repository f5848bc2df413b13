// Building: names, columns, layers, errors.
#include "engine/graph.h"

#include <doctest/doctest.h>

#include "engine/ops.h"

namespace poolgrad {
namespace {

TEST_CASE("graph: parameters are named by their layers and draw numbers of their own") {
  Graph graph;
  Tensor weight, bias;
  {
    const Graph::Layer block(graph, "block");
    const Graph::Layer layer(graph, "0");
    weight = graph.parameter({4, 3}, Init::kaiming_uniform(3, 7), "weight");
    bias = graph.parameter({4}, Init::kaiming_uniform(3, 7), "bias");
  }
  CHECK(graph.name(weight.id) == "block.0.weight");
  CHECK(graph.current_layer.empty());
  CHECK(graph.tensors.init[0].stream != graph.tensors.init[1].stream);
  CHECK(graph.column("parameters") == std::vector<Tensor>{weight, bias});
}

TEST_CASE("graph: an op's error names the layer it stands in") {
  Graph graph;
  const Tensor x = graph.input({{32, 784}}, "x");
  const Graph::Layer layer(graph, "2");
  const Tensor weight = graph.parameter({10, 128}, {}, "weight");
  try {
    (void)linear(x, weight);
    FAIL("no error");
  } catch (const ShapeError& error) {
    const std::string what = error.what();
    CAPTURE(what);
    CHECK(what.find("[32, 784]") != std::string::npos);
    CHECK(what.find("[10, 128]") != std::string::npos);
    CHECK(what.find("(in layer '2')") != std::string::npos);
  }
}

TEST_CASE("graph: tensors of another graph are refused") {
  Graph one, two;
  const Tensor x = one.input({{4}}, "x"), y = two.input({{4}}, "y");
  CHECK_THROWS_WITH_AS((void)add(x, y), "add: input 1 belongs to another graph", ShapeError);
}

TEST_CASE("graph: inputs and parameters have at least one element") {
  Graph graph;
  CHECK_THROWS_WITH_AS((void)graph.input({{0, 3}}, "x"),
                       "input 'x': shape [0, 3] has an extent below 1", ShapeError);
  CHECK_THROWS_WITH_AS((void)graph.parameter({3, -1}, {}, "w"),
                       "parameter 'w': shape [3, -1] has an extent below 1", ShapeError);
}

}  // namespace
}  // namespace poolgrad

// Layers: names, shapes, first values, and that one layer serves several graphs.
#include "layers/layer.h"

#include <algorithm>
#include <cmath>

#include <doctest/doctest.h>

#include "engine/program.h"
#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/stateless.h"

namespace poolgrad::layers {
namespace {

std::vector<std::string> parameters(Graph& graph) {
  std::vector<std::string> result;
  for (const Tensor& tensor : graph.column("parameters"))
    result.push_back(graph.name(tensor.id) + " " + to_string(tensor.shape()));
  return result;
}

TEST_CASE("sequential: names are those of torch.nn.Sequential, nested too") {
  Graph graph;
  const Sequential inner{Linear{8, 6}, ReLU{}, Linear{6, 6, 0, /*bias=*/false}};
  const Sequential outer{Flatten{}, inner, Linear{6, 3}};
  const Tensor y = outer(graph, graph.input({{5, 2, 4}}, "x"), true);
  CHECK(y.shape() == Shape{5, 3});
  CHECK(parameters(graph) == std::vector<std::string>{"1.0.weight [6, 8]", "1.0.bias [6]",
                                                      "1.2.weight [6, 6]", "2.weight [3, 6]",
                                                      "2.bias [3]"});
}

TEST_CASE(
    "layer: called twice on one graph it finds its parameters, on another it makes new ones") {
  const Sequential model{Linear{4, 4, 1}, ReLU{}};
  Graph graph, other;
  const Tensor x = graph.input({{2, 4}}, "x");
  (void)model(graph, x, true);
  (void)model(graph, x, false);
  CHECK(graph.column("parameters").size() == 2);
  (void)model(other, other.input({{3, 4}}, "x"), true);
  CHECK(other.column("parameters").size() == 2);
}

TEST_CASE("layer: two layers of one name and different shapes are an error") {
  Graph graph;
  (void)Linear{4, 4}(graph, graph.input({{2, 4}}, "x"), true);
  CHECK_THROWS_WITH_AS((void)(Linear{5, 4}(graph, graph.input({{2, 5}}, "z"), true)),
                       "layer: parameter 'weight' is [4, 4] in this graph, not [4, 5]; give the "
                       "layers different names",
                       ShapeError);
}

TEST_CASE(
    "layers: first values are uniform up to 1/sqrt(fan_in), and differ by seed and parameter") {
  const auto first = [](std::uint64_t seed) {
    Graph graph;
    const Tensor y = Linear{100, 50, seed}(graph, graph.input({{1, 100}}, "x"), true);
    const Program program = compile(graph, {{"predict", {y}}});
    const std::span<float> weight = program.view(graph.column("parameters")[0]).as<float>();
    return std::vector(weight.begin(), weight.end());
  };
  const std::vector<float> values = first(1);
  const auto [least, most] = std::ranges::minmax(values);
  CHECK(least >= -0.1F);
  CHECK(most <= 0.1F);
  CHECK(least < -0.099F);
  CHECK(most > 0.099F);
  double mean = 0, square = 0;
  for (const float v : values) mean += v / 5000.0, square += v * v / 5000.0;
  CHECK(std::abs(mean) < 0.003);                               // 0 ± 0.0008
  CHECK(square == doctest::Approx(0.01 / 3.0).epsilon(0.05));  // variance of a uniform number
  CHECK(first(1) == values);
  CHECK(first(2) != values);
}

TEST_CASE("conv2d: shapes as torch.nn.Conv2d, strided, dilated, grouped, without bias") {
  Graph graph;
  const Conv2d layer{6,      4,
                     {3, 5}, {.stride = {2, 1}, .padding = {1, 2}, .dilation = {1, 1}, .groups = 2},
                     0,      /*bias=*/false};
  const Tensor y = layer(graph, graph.input({{2, 6, 9, 8}}, "x"), true);
  CHECK(y.shape() == Shape{2, 4, 5, 8});
  CHECK(parameters(graph) == std::vector<std::string>{"weight [4, 3, 3, 5]"});
  const Tensor weight = graph.column("parameters")[0];
  CHECK(graph.tensors.init[static_cast<std::size_t>(weight.id)].value ==
        doctest::Approx(1.0 / std::sqrt(45.0)));
  CHECK_THROWS_WITH_AS(
      (void)(Conv2d{5, 4, {3, 3}, {.groups = 2}}(graph, graph.input({{1, 5, 8, 8}}, "z"), true)),
      "conv2d: 5 inputs and 4 outputs in 2 groups; both must be multiples of the groups",
      ShapeError);
}

TEST_CASE("pools, upsampling and flatten: shapes") {
  Graph graph;
  const Tensor x = graph.input({{3, 2, 6, 8}}, "x");
  CHECK(MaxPool2d{}(graph, x, true).shape() == Shape{3, 2, 3, 4});
  CHECK(AvgPool2d{{.size = {3, 3}, .stride = {1, 1}, .padding = {1, 1}}}(graph, x, true).shape() ==
        x.shape());
  CHECK(Upsample{3}(graph, x, true).shape() == Shape{3, 2, 18, 24});
  CHECK(GlobalAvgPool2d{}(graph, x, true).shape() == Shape{3, 2, 1, 1});
  CHECK(Flatten{}(graph, x, true).shape() == Shape{3, 96});
  CHECK(parameters(graph).empty());
}

TEST_CASE("dropout: drops in training, and use passes x through") {
  Graph graph;
  const Tensor x = graph.input({{2, 4}}, "x");
  const Tensor y = Dropout{0.5}(graph, x, true);
  CHECK(y.shape() == x.shape());
  CHECK(y != x);
  CHECK(Dropout{0.5}(graph, x, false) == x);
  CHECK(parameters(graph).empty());
}

TEST_CASE("layers: an error of an op says in which layer it was") {
  Graph graph;
  const Sequential model{ReLU{}, Linear{4, 2}};
  CHECK_THROWS_WITH_AS((void)model(graph, graph.input({{2, 5}}, "x"), true),
                       doctest::Contains("(in layer '1')"), ShapeError);
}

}  // namespace
}  // namespace poolgrad::layers

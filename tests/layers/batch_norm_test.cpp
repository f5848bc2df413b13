// BatchNorm2d: what belongs to the graph, under which names, and when it changes.
#include "layers/batch_norm.h"

#include <cmath>

#include <doctest/doctest.h>

#include "engine/program.h"

namespace poolgrad {
namespace {

std::vector<std::string> names(Graph& graph, std::string_view column) {
  std::vector<std::string> result;
  for (const Tensor& tensor : graph.column(column)) result.push_back(graph.name(tensor.id));
  return result;
}

/// The same layer for training and for use, in one graph.
struct Net {
  Graph graph;
  Tensor x, training, use;

  Net() {
    x = graph.input({{4, 2, 1, 2}}, "x");
    const Graph::Layer scope(graph, "norm");
    const layers::BatchNorm2d norm{2};
    training = norm(graph, x, true);
    use = norm(graph, x, false);
  }
};

TEST_CASE("BatchNorm2d: names are torch's, and a second call finds the same tensors") {
  Net net;
  CHECK(names(net.graph, "parameters") == std::vector<std::string>{"norm.weight", "norm.bias"});
  CHECK(names(net.graph, "statistics") == std::vector<std::string>{"norm.running_mean",
                                                                   "norm.running_var",
                                                                   "norm.num_batches_tracked"});
}

TEST_CASE("BatchNorm2d: the training entry moves the running statistics, use reads them") {
  const Net net;
  Program program = compile(net.graph, {{"train", {net.training}}, {"predict", {net.use}}});
  const auto mean = program.find("statistics", "norm.running_mean").as<float>();
  const auto variance = program.find("statistics", "norm.running_var").as<float>();
  const auto batches = program.find("statistics", "norm.num_batches_tracked").as<std::int64_t>();
  const std::vector<float> x{1, 3, 10, 30, 1, 3, 10, 30, 5, 7, 50, 70, 5, 7, 50, 70};
  const Feed feed{net.x, ArrayView::of(std::span(x), {4, 2, 1, 2}, DType::f32)};

  program.run("predict", std::span(&feed, 1));
  CHECK(batches[0] == 0);
  CHECK(program.view(net.use).as<float>()[0] == doctest::Approx(1.0));

  program.run("train", std::span(&feed, 1));
  CHECK(batches[0] == 1);
  CHECK(mean[0] == doctest::Approx(0.1 * 4.0));
  CHECK(mean[1] == doctest::Approx(0.1 * 40.0));
  CHECK(variance[0] == doctest::Approx(0.9 + 0.1 * 40.0 / 7.0));
  CHECK(variance[1] == doctest::Approx(0.9 + 0.1 * 4000.0 / 7.0));

  program.run("predict", std::span(&feed, 1));
  CHECK(batches[0] == 1);
  CHECK(program.view(net.use).as<float>()[0] ==
        doctest::Approx((1.0 - mean[0]) / std::sqrt(variance[0] + 1e-5)));
}

TEST_CASE("BatchNorm2d: the error names the layer") {
  Graph graph;
  const Graph::Layer scope(graph, "norm");
  CHECK_THROWS_WITH_AS(layers::BatchNorm2d{3}(graph, graph.input({{4, 2, 5, 5}}, "x"), true),
                       "batch_norm: running mean [3] of float32 does not fit x with 2 channels; "
                       "make it [2] of float32 (in layer 'norm')",
                       ShapeError);
}

}  // namespace
}  // namespace poolgrad

// The fullest moment: every byte once, and reasons that hold.
#include "engine/peak.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "engine/autograd.h"
#include "engine/ops.h"

namespace poolgrad {
namespace {

/// Two linear layers with ReLU between them, and their gradients.
struct Net {
  Graph graph;
  Tensor x, y, weight, loss;

  Net() {
    x = graph.input({{64, 32}}, "x");
    y = graph.input({{64}, DType::i64}, "y");
    const Graph::Layer layer(graph, "0");
    weight = graph.parameter({100, 32}, Init::constant(0.1F), "weight");
    loss = softmax_cross_entropy(linear(relu(linear(x, weight)), last()), y);
  }
  Tensor last() {
    const Graph::Layer layer(graph, "last");
    return graph.parameter({10, 100}, Init::constant(0.1F), "weight");
  }
  [[nodiscard]] Blueprint drafted(int threads, int chunks = 1) {
    const Tensor scale = graph.state({}, Init::constant(1.0F), "scale", "settings");
    const auto backward = [this, scale](Graph& entry) {
      std::vector<int> ids;
      const std::vector<Tensor> weights = entry.column("parameters");
      for (const Tensor& g : differentiate(entry.handle(loss.id), weights, entry.handle(scale.id)))
        ids.push_back(g.id);
      return ids;
    };
    return draft(graph, {{"train", {loss}, backward}, {"predict", {loss}}},
                 {.threads = threads, .chunks = chunks});
  }
};

TEST_CASE("peak: layers add up to the persistent bytes and the lower bound") {
  for (const int threads : {1, 2, 3}) {
    const Blueprint blueprint = Net().drafted(threads, 2);
    for (const char* name : {"train", "predict"}) {
      std::size_t bytes = 0;
      for (const LayerBytes& layer : bytes_at_peak(blueprint, name)) bytes += layer.sum();
      CHECK(bytes == blueprint.persistent_bytes + blueprint.entry(name).plan.lower_bound_bytes);
    }
  }
}

TEST_CASE("peak: layers come in the order of the network") {
  const std::vector<LayerBytes> layers = bytes_at_peak(Net().drafted(1), "train");
  std::vector<std::string> names;
  for (const LayerBytes& layer : layers) names.push_back(layer.layer);
  CHECK(names == std::vector<std::string>{"", "0", "0.last"});
}

TEST_CASE("peak: groups hold what is alive, each for a reason that the steps confirm") {
  for (const int threads : {1, 2, 3}) {
    CAPTURE(threads);
    const Blueprint blueprint = Net().drafted(threads, 2);
    const Entry& entry = blueprint.entry("train");
    const std::vector<StepName> now = fullest_steps(blueprint, "train");
    std::size_t bytes = 0;
    for (const AliveGroup& group : alive_groups(blueprint, "train")) {
      bytes += group.bytes;
      CHECK(group.slots > 0);
      REQUIRE(group.next.step >= 0);
      REQUIRE(group.next.step < static_cast<int>(entry.steps.size()));
      const bool runs_now = std::ranges::any_of(
          now, [&](const StepName& step) { return step.step == group.next.step; });
      if (group.why == Why::made || group.why == Why::read) CHECK(runs_now);
      if (threads == 1) {
        CHECK(group.why != Why::phase);  // one member knows the order of everything
        CHECK(group.next.step >= now[0].step);
        if (group.why == Why::needed) CHECK(group.next.step > now[0].step);
      }
    }
    CHECK(bytes == entry.plan.lower_bound_bytes);
  }
}

TEST_CASE("peak: the largest entry is the one whose plan is largest, be its bound lower") {
  Blueprint blueprint = Net().drafted(1);
  CHECK(largest_entry(blueprint).name == "train");
  blueprint.entries[1].plan.arena_bytes = blueprint.entries[0].plan.arena_bytes + 64;
  CHECK(largest_entry(blueprint).name == "predict");
}

}  // namespace
}  // namespace poolgrad

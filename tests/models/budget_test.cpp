// Budgets: training inside less memory, with the same bits. What is made again is the engine's
// choice; that the plan holds what it says is program_test.cpp's.
#include <algorithm>
#include <functional>

#include <doctest/doctest.h>

#include "engine/ops.h"
#include "engine/passes/recompute_estimate.h"
#include "engine/program.h"
#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/stateless.h"
#include "memory/adaptors.h"
#include "models/chain.h"
#include "models/cnn.h"
#include "models/mlp.h"
#include "models/resnet.h"
#include "models/unet.h"
#include "tests/engine/small_images.h"
#include "tests/repeat.h"
#include "train/task.h"
#include "train/what_if.h"

namespace poolgrad {
namespace {

constexpr std::int64_t kBatch = 24, kSide = 16;

/// Where a dropout is computed again, the same mask must be drawn.
Tensor with_dropout(Graph& graph, Tensor x, bool training) {
  constexpr std::int64_t kChannels = 8;
  for (int i = 0; i < 6; ++i) {
    const Graph::Layer layer(graph, std::to_string(i));
    const layers::Conv2d conv{i == 0 ? 1 : kChannels, kChannels, {3, 3}, {.padding = {1, 1}}};
    x = layers::Dropout{0.3}(graph, relu(conv(graph, x, training)), training);
  }
  const Graph::Layer layer(graph, "fc");
  return layers::Linear{kChannels, 10}(graph, flatten(global_avg_pool2d(x)), training);
}

struct Net {
  std::string name;
  train::Model model;
};

std::vector<Net> nets() {
  const std::vector<std::int64_t> hidden(12, 48);
  return {{"mlp", models::mlp(kSide * kSide, hidden, 10)},
          {"cnn", models::cnn({1, kSide, kSide})},
          {"resnet", models::resnet(2, 8)},
          {"chain", models::chain(12, 8)},
          {"unet", models::unet(8)},
          {"dropout", with_dropout}};
}

train::TaskSpec spec(const Net& net, const train::Optimizer& optimizer) {
  return {.model = net.model, .sample = {1, kSide, kSide}, .batch = kBatch, .optimizer = optimizer};
}

/// Losses of three steps, the second with a short batch; then all weights.
std::vector<float> trained(const train::Task& task, const Options& options) {
  testing::SmallImages images(kBatch, kSide);
  Program program = compile(*task.graph, task.entries, options);
  std::vector<float> result;
  for (const std::int64_t rows : {kBatch, kBatch - 7, kBatch}) {
    program.run("train", images.feeds(task.samples, task.labels, rows));
    result.push_back(program.view(task.training.loss).as<float>()[0]);
  }
  for (const Tensor& parameter : task.graph->column("parameters")) {
    const auto values = program.view(parameter).as<float>();
    result.insert(result.end(), values.begin(), values.end());
  }
  return result;
}

TEST_CASE("budget: every network trains with the same bits in less memory, freed bytes poisoned") {
  struct Setting {
    train::Optimizer optimizer;
    int threads, chunks;
  };
  const Setting settings[] = {{train::Sgd{.rate = 0.05F, .momentum = 0.9F}, 1, 1},
                              {train::Adam{}, 1, 4},
                              {train::Adam{}, 2, 2}};
  for (const Net& net : nets()) {
    for (const Setting& setting : settings) {
      if (testing::kSanitized && setting.chunks == 4) continue;
      CAPTURE(net.name);
      CAPTURE(setting.threads);
      CAPTURE(setting.chunks);
      const train::TaskSpec net_spec = spec(net, setting.optimizer);
      const train::Task task = train::make_task(net_spec);
      memory::HostResource heap;
      memory::Poison poisoned(heap);
      Options options{.resource = &poisoned, .threads = setting.threads, .chunks = setting.chunks};
      const std::size_t plain = draft(*task.graph, task.entries, options).arena_bytes();
      const std::size_t smallest = train::smallest_budget(net_spec, options);
      CHECK(smallest <= plain);
      if (net.name == "resnet" || net.name == "chain") CHECK(smallest < plain * 3 / 4);
      const std::vector<float> expected = trained(task, options);
      for (const std::size_t budget : {smallest, (plain + smallest) / 2}) {
        if (testing::kSanitized && budget != smallest) break;
        options.budget_bytes = budget;
        CHECK(draft(*task.graph, task.entries, options).arena_bytes() <= budget);
        for (const Memory memory : {Memory::planned, Memory::direct}) {
          options.memory = memory;
          CHECK(trained(task, options) == expected);
        }
        options.memory = Memory::planned;
      }
    }
  }
}

TEST_CASE("budget: a smaller one never takes more memory and never fails where it is feasible") {
  for (const Net& net : nets()) {
    CAPTURE(net.name);
    const train::TaskSpec net_spec = spec(net, train::Adam{});
    const train::Task task = train::make_task(net_spec);
    Options options{.chunks = 1};
    const std::size_t plain = draft(*task.graph, task.entries, options).arena_bytes();
    const std::size_t smallest = train::smallest_budget(net_spec, options);
    std::size_t larger = plain;
    double extra = 0.0;
    constexpr std::size_t kSteps = testing::times(12, 3);
    for (std::size_t i = 0; i <= kSteps; ++i) {
      options.budget_bytes = plain - (plain - smallest) * i / kSteps;
      CAPTURE(options.budget_bytes);
      const Blueprint blueprint = draft(*task.graph, task.entries, options);
      CHECK(blueprint.arena_bytes() <= options.budget_bytes);
      CHECK(blueprint.arena_bytes() <= larger);
      CHECK(blueprint.entry("train").extra_time >= extra);
      larger = blueprint.arena_bytes();
      extra = blueprint.entry("train").extra_time;
    }
    CHECK(larger == smallest);
  }
}

TEST_CASE("budget: where all fits, the program is the one without a budget") {
  const train::Task task = train::make_task(spec(nets()[2], train::Adam{}));
  const Blueprint plain = draft(*task.graph, task.entries, {});
  const Blueprint same = draft(*task.graph, task.entries, {.budget_bytes = plain.arena_bytes()});
  CHECK(same.arena_bytes() == plain.arena_bytes());
  CHECK(same.entry("train").steps.size() == plain.entry("train").steps.size());
  CHECK(same.entry("train").made_again == 0);
}

TEST_CASE("budget: one below the smallest feasible is an error that says which that is") {
  const train::TaskSpec chain = spec(nets()[3], train::Sgd{});
  const train::Task task = train::make_task(chain);
  const std::size_t smallest = train::smallest_budget(chain, {});
  CHECK_NOTHROW((void)draft(*task.graph, task.entries, {.budget_bytes = smallest}));
  CHECK_THROWS_AS((void)draft(*task.graph, task.entries, {.budget_bytes = smallest - 1}),
                  MemoryError);
  const train::Task small =
      train::make_task({.model = models::mlp(4, {}, 2), .sample = {4}, .batch = 8});
  CHECK_THROWS_WITH_AS((void)draft(*small.graph, small.entries, {.budget_bytes = 100}),
                       "compile: a budget of 100 bytes (0.0 MiB) is below the smallest that is "
                       "feasible, 1472 bytes (0.0 MiB); raise it or take a smaller batch",
                       MemoryError);
}

TEST_CASE("budget: a chain whose batch is cut needs parts of its values, not one of them whole") {
  const train::TaskSpec chain{
      .model = models::chain(testing::times(32, 16)), .sample = {1, 28, 28}, .batch = 128};
  const Options options{.threads = 1};
  const train::Task task = train::make_task(chain);
  const std::size_t plain = draft(*task.graph, task.entries, options).arena_bytes();
  CHECK(testing::times(30, 15) * train::smallest_budget(chain, options) < 10 * plain);
}

/// Of sixty sums of a value and itself, 2^60 ways lead back.
Tensor doubled(Graph& graph, Tensor x, bool training) {
  const Graph::Layer layer(graph, "fc");
  for (int i = 0; i < 60; ++i) x = add(x, x);
  return layers::Linear{16, 10}(graph, x, training);
}

TEST_CASE("budget: what is read on many ways is looked at once") {
  const train::Task task = train::make_task({.model = doubled, .sample = {16}, .batch = 8});
  CHECK_THROWS_AS((void)draft(*task.graph, task.entries, {.budget_bytes = 1}), MemoryError);
}

/// A copy of the task's graph becomes the training entry as recompute_choices() sees it.
void prepare(const train::Task& task, Graph& graph) {
  passes::fuse(graph);
  std::vector<int> roots = task.entries[0].append(graph);
  for (const Tensor& root : task.entries[0].roots) roots.push_back(root.id);
  passes::drop_dead(graph, roots);
  passes::fuse_updates(graph);
  passes::layout(graph, true);
  passes::keep_signs(graph);
  passes::recompute(graph);
  passes::schedule(graph);
}

TEST_CASE("budget: on a short chain the choices are the best of all") {
  using passes::Saved;
  const train::Task task = train::make_task(
      {.model = models::chain(7, 8), .sample = {1, kSide, kSide}, .batch = kBatch});
  Graph graph = task.graph->copy();
  prepare(task, graph);
  const auto runs = passes::find_runs(graph, {.members = 1, .chunks = 1});
  const passes::Walk walk(graph, runs);
  passes::Estimator estimator(graph, walk, 1);

  std::vector<int> nodes;  // whose results are worth a decision
  for (int i = 0; i < static_cast<int>(walk.nodes.size()); ++i) {
    if (walk.droppable[static_cast<std::size_t>(i)] && estimator.bytes_of(i) > 4096)
      nodes.push_back(i);
  }
  REQUIRE(nodes.size() == 8);  // seven convolutions, and the signs of the last one
  std::vector<passes::Estimate> all;
  std::vector<Saved> saved = walk.usual;
  for (int code = 0; code < 6561; code += testing::times(1, 7)) {  // 3^8
    for (int rest = code; const int node : nodes) {
      saved[static_cast<std::size_t>(node)] = static_cast<Saved>(rest % 3);
      rest /= 3;
    }
    all.push_back(estimator.estimate(saved));
  }
  const double plain = estimator.estimate(walk.usual).highest();
  const double smallest = std::ranges::min_element(all, {}, &passes::Estimate::highest)->highest();
  double reached = plain;
  for (const passes::Choice& choice : passes::recompute_choices(graph, runs, 1)) {
    if (choice.saved.empty()) continue;
    const passes::Estimate found = estimator.estimate(choice.saved, choice.times);
    double best = found.us;
    for (const passes::Estimate& other : all) {
      if (other.highest() <= found.highest()) best = std::min(best, other.us);
    }
    CAPTURE(found.highest() / plain);
    CHECK(found.us <= best * 1.001);
    reached = std::min(reached, found.highest());
  }
  CHECK(reached <= smallest * 1.001);
}

}  // namespace
}  // namespace poolgrad

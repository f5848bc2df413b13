// What each pass does to small graphs. That none changes a bit is shown on whole trainings
// elsewhere.
#include "engine/passes/passes.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "engine/autograd.h"
#include "engine/liveness.h"
#include "engine/ops.h"
#include "engine/passes/features.h"
#include "engine/passes/recompute_runs.h"
#include "engine/passes/recompute_walk.h"
#include "engine/passes/runs.h"

namespace poolgrad {
namespace {

std::vector<std::string> names(const Graph& graph) {
  std::vector<std::string> result;
  for (const Node& node : graph.nodes) result.emplace_back(node.op->name);
  return result;
}
std::ptrdiff_t count(const Graph& graph, std::string_view op) {
  return std::ranges::count_if(graph.nodes, [&](const Node& node) { return node.op->name == op; });
}

struct Dense {
  Graph graph;
  Tensor x = graph.input({{8, 6}}, "x"), w = graph.parameter({5, 6}, {}, "w"),
         b = graph.parameter({5}, {}, "b"), z = linear(x, w, b), y = relu(z);
};

TEST_CASE(
    "fuse: relu goes into the product that alone feeds it, but not when that is kept or read "
    "twice") {
  Dense plain;
  passes::fuse(plain.graph);
  CHECK(plain.graph.nodes.size() == 1);
  CHECK(plain.graph.nodes[0].outputs[0] == plain.y.id);

  Dense kept;
  kept.graph.keep(kept.z);
  passes::fuse(kept.graph);
  CHECK(kept.graph.nodes.size() == 2);

  Dense twice;
  (void)relu(twice.z);
  passes::fuse(twice.graph);
  CHECK(twice.graph.nodes.size() == 3);
}

TEST_CASE("drop_dead: the gradient of the input is not computed") {
  Dense net;
  const Tensor labels = net.graph.input({{8}, DType::i64}, "labels");
  const Tensor loss = softmax_cross_entropy(net.y, labels);
  const Tensor one = net.graph.state({}, Init::constant(1.0F), "one", "settings");
  const std::vector<Tensor> wanted{net.w, net.b, net.x};
  const std::vector<Tensor> grads = differentiate(loss, wanted, one);
  const std::size_t all = net.graph.nodes.size();
  passes::drop_dead(net.graph, std::vector<int>{grads[0].id, grads[1].id});
  CHECK(net.graph.nodes.size() == all - 1);
  CHECK(check_order(net.graph) == "");
}

TEST_CASE("layout: images are moved once, parameters and kept tensors stay row-major") {
  Graph graph;
  const Tensor x = graph.input({{2, 3, 8, 8}}, "x");
  const auto conv = [&](Tensor t, std::int64_t out, const char* name) {
    return conv2d(t, graph.parameter({out, t.shape()[1], 3, 3}, {}, name), {}, {.padding = {1, 1}});
  };
  const Tensor first = relu(conv(x, 4, "w1")), second = conv(first, 4, "w2"),
               other = conv(x, 4, "w3"), sum = add(second, other);
  graph.keep(first);
  const Tensor flat = flatten(sum);

  Graph moved = graph.copy();
  passes::layout(moved, true);
  // x for both its readers, `first` back to what exports see, `sum` before it is flattened
  CHECK(count(moved, "reorder") == 3);
  CHECK(moved.tensors.spec[static_cast<std::size_t>(first.id)].layout == Layout::row_major);
  CHECK(moved.tensors.spec[static_cast<std::size_t>(second.id)].layout == Layout::channels_last);
  CHECK(moved.tensors.spec[static_cast<std::size_t>(flat.id)].layout == Layout::row_major);

  Graph apart = graph.copy();
  passes::layout(apart, false);
  CHECK(count(apart, "reorder") == 6);  // in and out of each of three convolutions
  for (const Tensor& t : {first, second, other, sum})
    CHECK(apart.tensors.spec[static_cast<std::size_t>(t.id)].layout == Layout::row_major);
}

TEST_CASE("layout: one channel, or one pixel, needs no bytes moved") {
  Graph graph;
  const Tensor x = graph.input({{2, 1, 8, 8}}, "x");
  const Tensor w = graph.parameter({4, 1, 3, 3}, {}, "w");
  (void)flatten(global_avg_pool2d(conv2d(x, w)));
  passes::layout(graph, true);
  CHECK(count(graph, "reorder") == 0);
}

TEST_CASE("keep_signs: of a ReLU whose values nobody reads again, bits are kept") {
  Graph graph;
  const Tensor x = graph.input({{32, 8, 16, 16}}, "x");
  const Tensor w = graph.parameter({8, 8, 3, 3}, {}, "w");
  const auto conv = [&](Tensor t) { return conv2d(t, w, {}, {.padding = {1, 1}}); };
  const Tensor inner = relu(conv(x));      // its values are read for the weight's gradient
  const Tensor outer = relu(conv(inner));  // only its signs matter
  const Tensor logits = flatten(global_avg_pool2d(outer));
  const Tensor loss = softmax_cross_entropy(logits, graph.input({{32}, DType::i64}, "labels"));
  passes::fuse(graph);
  const Tensor grad = differentiate(loss, std::vector{w}, graph.input({{}}, "one"))[0];
  passes::drop_dead(graph, std::vector{grad.id, loss.id});
  passes::layout(graph, true);
  Graph kept = graph.copy();
  kept.keep(kept.handle(outer.id));
  passes::keep_signs(kept);
  CHECK(count(kept, "relu_signs") == 0);  // the values are there anyway
  passes::keep_signs(graph);
  CHECK(count(graph, "relu_signs") == 1);
  CHECK(count(graph, "relu_grad") == 1);
  CHECK(count(graph, "relu_grad_by_signs") == 1);
  for (const Node& node : graph.nodes) {
    if (node.op->name == "relu_signs") CHECK(node.inputs[0] == outer.id);
  }
  CHECK(check_order(graph) == "");
}

/// Two convolutions, each with batch norm and ReLU, and the gradient of the first weight.
struct Normalized {
  Graph graph;

  Normalized() {
    Tensor t = graph.input({{64, 16, 16, 16}}, "x");
    const Tensor w = graph.parameter({16, 16, 3, 3}, {}, "w");
    for (int i = 0; i < 2; ++i) {
      t = conv2d(t, w, {}, {.padding = {1, 1}});
      t = relu(batch_norm(t, graph.parameter({16}, {}, "g"), graph.parameter({16}, {}, "b")));
    }
    const Tensor ones = graph.input({{t.shape().count(), 1}}, "ones", false);
    const Tensor loss = reshape(matmul(reshape(t, {1, t.shape().count()}), ones), {});
    passes::fuse(graph);
    const Tensor grad = differentiate(loss, std::vector{w}, graph.input({{}}, "one"))[0];
    passes::drop_dead(graph, std::vector{grad.id, loss.id});
    passes::layout(graph, true);
  }
};

TEST_CASE("recompute: the backward pass reads batch norms of its own, made in its own runs") {
  Normalized net;
  CHECK(count(net.graph, "batch_norm") == 2);
  passes::recompute(net.graph);
  CHECK(count(net.graph, "batch_norm") == 3);  // nobody reads the last one backwards
  CHECK(check_order(net.graph) == "");
  for (const passes::Run& run : passes::find_runs(net.graph, {.members = 2})) {
    const auto is_backward = [&](const passes::CutNode& cut) {
      const Node& node = net.graph.nodes[static_cast<std::size_t>(cut.node)];
      return net.graph.tensors.backward[static_cast<std::size_t>(node.outputs[0])] != 0;
    };
    const auto backward = std::ranges::count_if(run.nodes, is_backward);
    CHECK((backward == 0 || backward == static_cast<std::ptrdiff_t>(run.nodes.size())));
  }
}

TEST_CASE("recompute_walk: what was made again is taken back, also where it reads what was") {
  Graph graph;
  const auto weight = [&](const char* name) { return graph.parameter({16, 16, 3, 3}, {}, name); };
  const Tensor x = graph.input({{8, 16, 8, 8}, DType::f32, Layout::channels_last}, "x");
  const Tensor first = weight("first"), second = weight("second");
  const Tensor scale = graph.parameter({16}, {}, "scale"),
               shift = graph.parameter({16}, {}, "shift");
  Tensor t = dropout(batch_norm(conv2d(x, first, {}, {.padding = {1, 1}}), scale, shift), 0.5);
  t = reshape(global_avg_pool2d(conv2d(t, second, {}, {.padding = {1, 1}})), {8, 16});
  const Tensor loss = softmax_cross_entropy(t, graph.input({{8}, DType::i64}, "labels"));
  const std::vector<Tensor> wanted{first, second};
  std::vector<int> roots{loss.id};
  for (const Tensor& gradient : differentiate(loss, wanted, graph.input({{}}, "one")))
    roots.push_back(gradient.id);
  passes::drop_dead(graph, roots);
  passes::recompute(graph);
  CHECK(count(graph, "batch_norm") == 2);
  CHECK(count(graph, "dropout") == 2);
  const auto runs = passes::find_runs(graph, {.members = 1, .chunks = 1});
  const passes::Walk walk(graph, runs);
  for (const char* op : {"batch_norm", "dropout"}) {
    CHECK(std::ranges::count_if(walk.nodes, [&](const Node& node) {
            return node.op->name == op && !node.outputs.empty();
          }) == 1);
  }
}

TEST_CASE("runs: nodes that share rows are cut together, and every node is in one run") {
  Graph graph;
  const Tensor x = graph.input({{128, 8, 32, 32}, DType::f32, Layout::channels_last}, "x");
  Tensor t = x;
  for (int i = 0; i < 3; ++i) t = relu(t);
  const Tensor loss = sum_rows(reshape(global_avg_pool2d(t), {128, 8}));
  (void)loss;
  const auto runs = passes::find_runs(graph, {.members = 2});
  std::vector<int> nodes;
  for (const passes::Run& run : runs) {
    for (const passes::CutNode& cut : run.nodes) nodes.push_back(cut.node);
  }
  std::ranges::sort(nodes);
  for (std::size_t i = 0; i < nodes.size(); ++i) CHECK(nodes[i] == static_cast<int>(i));
  CHECK(nodes.size() == graph.nodes.size());
  CHECK(runs[0].nodes.size() >= 4);
  CHECK(runs[0].parts == 4);  // 8 MiB of rows in and out: 4 MiB for each member in two goes

  const auto whole = passes::find_runs(graph, {.members = 1, .chunks = 1});
  for (const passes::Run& run : whole) CHECK(run.parts == 1);
}

/// A training step of two layers, with updates that stand for SGD.
struct TwoLayers {
  static constexpr OpDef kUpdate{
      .name = "update", .infer = same_as_first, .updates = 1, .cuts = elementwise<2>};
  Graph graph;
  Tensor hidden;

  explicit TwoLayers(std::int64_t batch, std::int64_t width = 128, bool keep_hidden = false) {
    const Tensor x = graph.input({{batch, 784}}, "x"),
                 labels = graph.input({{batch}, DType::i64}, "labels"),
                 one = graph.state({}, Init::constant(1.0F), "one", "settings");
    const std::vector<Tensor> parameters{
        graph.parameter({width, 784}, {}, "1.weight"), graph.parameter({width}, {}, "1.bias"),
        graph.parameter({10, width}, {}, "2.weight"), graph.parameter({10}, {}, "2.bias")};
    hidden = relu(linear(x, parameters[0], parameters[1]));
    if (keep_hidden) graph.keep(hidden);
    const Tensor loss = softmax_cross_entropy(linear(hidden, parameters[2], parameters[3]), labels);
    passes::fuse(graph);
    const std::vector<Tensor> grads = differentiate(loss, parameters, one);
    std::vector<int> roots{loss.id};
    for (std::size_t i = 0; i < grads.size(); ++i)
      roots.push_back(graph.add(kUpdate, {parameters[i], grads[i]})[0].id);
    passes::drop_dead(graph, roots);
    passes::schedule(graph);
  }
  [[nodiscard]] bool by_features(int members) const {
    const passes::Features found = passes::find_features(graph, members);
    return std::ranges::any_of(found.cut, [](const auto& cut) { return cut.has_value(); });
  }
};

TEST_CASE("features: each member keeps its rows of one weight and its columns of the next") {
  TwoLayers net(32);
  passes::split(net.graph, passes::find_runs(net.graph, {.members = 2}), 2);
  CHECK(check_order(net.graph) == "");
  const Storages storages = assign_storages(net.graph, true);
  CHECK(phases(net.graph, storages).back() == 1);  // they meet once, for the logits
  for (const Tensor weight : net.graph.column("parameters")) {
    if (weight.shape().rank() != 2) continue;
    for (const Node& node : net.graph.nodes) {
      for (const int id : node.inputs) {
        const auto i = static_cast<std::size_t>(id);
        if (node.op->view != nullptr ||
            storages.of[i] != storages.of[static_cast<std::size_t>(weight.id)])
          continue;
        const std::ptrdiff_t of_second = weight.shape()[0] == 128 ? 64 * 784 * 4 : 64 * 4;
        CHECK(storages.begin[i] == node.member * of_second);
      }
    }
  }
}

TEST_CASE("features: not where the batch outweighs the weights, nor caches are too small") {
  CHECK(TwoLayers(32).by_features(2));
  CHECK(TwoLayers(128).by_features(4));
  CHECK_FALSE(TwoLayers(512).by_features(2));
  CHECK_FALSE(TwoLayers(32).by_features(1));
  CHECK_FALSE(TwoLayers(32).by_features(16));            // 8 features each: less than a cache line
  CHECK_FALSE(TwoLayers(32, 1024).by_features(2));       // 1.6 MB of weights each
  CHECK_FALSE(TwoLayers(32, 16).by_features(2));         // not worth cutting
  CHECK_FALSE(TwoLayers(32, 128, true).by_features(2));  // what is kept must be in one piece
}

TEST_CASE("schedule: updates run as soon as their gradient is final") {
  Graph graph;
  static constexpr OpDef kUpdate{.name = "update", .infer = same_as_first, .updates = 1};
  const Tensor x = graph.input({{4}}, "x");
  const Tensor w = graph.parameter({4}, {}, "w"), v = graph.parameter({4}, {}, "v");
  const Tensor grad_w = add(x, x), grad_v = add(grad_w, x), reader = add(w, grad_v);
  (void)graph.add(kUpdate, {v, grad_v});
  (void)graph.add(kUpdate, {w, grad_w});
  (void)reader;
  passes::schedule(graph);
  CHECK(names(graph) == std::vector<std::string>{"add", "add", "update", "add", "update"});
  CHECK(check_order(graph) == "");
}

TEST_CASE("recompute_runs: an update waits for the nodes that read the old weight again") {
  Graph graph;
  static constexpr OpDef kUpdate{.name = "update", .infer = same_as_first, .updates = 1};
  const Tensor x = graph.input({{4}}, "x"), w = graph.parameter({4}, {}, "w");
  const Tensor h = add(x, w), y = relu(h);
  graph.in_backward = true;
  const Tensor gradient = add(y, y);
  graph.in_backward = false;
  (void)graph.add(kUpdate, {w, gradient});
  graph.in_backward = true;
  (void)add(gradient, h);  // after the update, unless h must be made again from the old w
  std::vector<passes::Run> runs = passes::find_runs(graph, {});
  passes::Choice choice{std::vector(graph.nodes.size(), passes::Saved::kept)};
  choice.saved[0] = passes::Saved::once;
  REQUIRE(passes::recompute_runs(graph, runs, choice));
  passes::split(graph, runs, 1);
  CHECK(names(graph) == std::vector<std::string>{"add", "relu", "add", "add", "update", "add"});
  CHECK(graph.nodes[3].inputs == graph.nodes[0].inputs);
  CHECK(graph.nodes[5].inputs[1] == graph.nodes[3].outputs[0]);
  CHECK(check_order(graph) == "");
}

}  // namespace
}  // namespace poolgrad

// Which tensors become halves, and what stays f32. That the results are right is shown on whole
// trainings (tests/python/test_precision.py).
#include <algorithm>
#include <map>

#include <doctest/doctest.h>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/program.h"

namespace poolgrad {
namespace {

/// x -> linear, relu -> linear -> loss, with gradients of all parameters; the loss and the logits
/// are kept.
struct Net {
  Graph graph;
  Tensor x = graph.input({{8, 6}}, "x"), labels = graph.input({{8}, DType::i64}, "labels"),
         w1 = graph.parameter({5, 6}, {}, "w1"), b1 = graph.parameter({5}, {}, "b1"),
         w2 = graph.parameter({4, 5}, {}, "w2"), hidden = relu(linear(x, w1, b1)),
         logits = linear(hidden, w2), loss = softmax_cross_entropy(logits, labels),
         one = graph.state({}, Init::constant(1.0F), "one", "settings");
};

/// Input and output dtypes of every op of an entry that is no view, in words.
std::multimap<std::string, std::string> dtypes(const Entry& entry) {
  std::multimap<std::string, std::string> result;
  for (const Step& step : entry.steps) {
    const Node& node = entry.graph->nodes[static_cast<std::size_t>(step.node)];
    std::string words;
    const auto put = [&](const std::vector<int>& ids) {
      for (const int id : ids)
        words += to_string(entry.graph->tensors.spec[static_cast<std::size_t>(id)].dtype) + " ";
    };
    put(node.inputs), words += "-> ", put(node.outputs);
    words.pop_back();
    result.emplace(std::string(node.op->name), words);
  }
  return result;
}

std::vector<std::string> of(const std::multimap<std::string, std::string>& all,
                            const std::string& op) {
  std::vector<std::string> result;
  for (auto [at, end] = all.equal_range(op); at != end; ++at) result.push_back(at->second);
  std::ranges::sort(result);
  return result;
}

TEST_CASE("precision: products read and make halves; losses and gradients of parameters are f32") {
  Net net;
  const std::vector wanted{net.w1, net.b1, net.w2};
  const auto grads = differentiate(net.loss, wanted, net.one);
  for (const Tensor& gradient : grads) net.graph.keep(gradient);
  std::vector<Tensor> roots = grads;
  roots.push_back(net.loss), roots.push_back(net.logits);
  const Blueprint made = draft(net.graph, {{"train", roots}}, {.precision = DType::bf16});
  const auto all = dtypes(made.entries[0]);
  const std::string h = "bfloat16", f = "float32";
  CHECK(of(all, "relu_grad") == std::vector{h + " " + h + " -> " + h});
  CHECK(of(all, "softmax_cross_entropy") ==
        std::vector{f + " int64 int32 -> " + f + " " + f});  // the kept logits
  CHECK(of(all, "softmax_cross_entropy_grad") == std::vector{f + " int64 int32 " + f + " -> " + f});
  // x, w1, b1, w2 and the gradient of the logits become halves, the kept logits f32; kept tensors
  // that no update reads are made as halves, too.
  CHECK(of(all, "cast").size() == 5 + 1 + 2);
  for (const auto& node : all) {
    CAPTURE(node.first);
    if (node.first == "matmul") CHECK(node.second.find(f) == std::string::npos);
  }
}

TEST_CASE("precision: what follows f32 alone stays f32, and what is fed counts as halves") {
  Graph graph;
  const Tensor x = graph.input({{4, 3}}, "x"), p = graph.parameter({4, 3}, {}, "p");
  const Tensor from_fed = relu(x), from_parameter = relu(p);
  const Tensor mixed = relu(add(from_fed, from_parameter));
  const Blueprint made = draft(graph, {{"use", {mixed}}}, {.precision = DType::f16, .fuse = false});
  const auto all = dtypes(made.entries[0]);
  CHECK(of(all, "relu") ==
        std::vector<std::string>{"float16 -> float16", "float16 -> float16", "float32 -> float32"});
  CHECK(of(all, "add") == std::vector<std::string>{"float16 float16 -> float16"});
}

TEST_CASE("precision: an update reads f32, summed as f32 where a parameter is used twice") {
  Graph graph;
  const Tensor x = graph.input({{8, 6}}, "x"), labels = graph.input({{8}, DType::i64}, "labels"),
               w = graph.parameter({6, 6}, {}, "w"), one = graph.state({}, {}, "one", "settings");
  const Tensor loss = softmax_cross_entropy(linear(linear(x, w), w), labels);
  constexpr OpDef kMove{
      .name = "move",
      .infer = [](const Site& site) -> std::vector<Spec> { return {site.inputs[0]}; },
      .updates = 1,
      .cpu = [](const Site&) -> Kernel { return {[](const Args&) {}}; },
  };
  static const OpDef move = kMove;
  const EntryPoint entry{"train", {loss}, [&](Graph& own) -> std::vector<int> {
                           const std::vector wanted{own.handle(w.id)};
                           const auto grads =
                               differentiate(own.handle(loss.id), wanted, own.handle(one.id));
                           return {own.add(move, {own.handle(w.id), grads[0]})[0].id};
                         }};
  const auto all = dtypes(draft(graph, {entry}, {.precision = DType::bf16}).entries[0]);
  CHECK(of(all, "add") == std::vector<std::string>{"float32 float32 -> float32"});
  CHECK(of(all, "move") == std::vector<std::string>{"float32 float32 -> float32"});
  CHECK(of(all, "cast").size() == 3);  // x, w once for both layers, the gradient of the logits
}

TEST_CASE("precision: other dtypes are refused") {
  Net net;
  CHECK_THROWS_WITH_AS((void)draft(net.graph, {{"use", {net.loss}}}, {.precision = DType::i64}),
                       "compile: activations cannot be kept as int64; choose float32, bfloat16 or "
                       "float16",
                       ArgumentError);
}

}  // namespace
}  // namespace poolgrad

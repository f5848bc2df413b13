// What OpDefs promise to the passes, for every op of two training steps: parts by `cuts` agree with
// the whole, and where `overwrites` was used the bits are the same.
#include <cmath>
#include <set>

#include <doctest/doctest.h>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/ops/relu.h"
#include "engine/passes/passes.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using testing::Evaluation, testing::Value;

/// A training step over every op: values of all its tensors, and the nodes to try.
struct Step {
  Graph graph;
  std::unique_ptr<Evaluation> run;

  explicit Step(bool fuse) {
    const std::int64_t n = 11;  // parts of different sizes
    const Tensor x = graph.input({{n, 3, 12, 12}}, "x");
    const Tensor labels = graph.input({{n}, DType::i64}, "labels");
    const auto parameter = [&](const Shape& shape) { return graph.parameter(shape, {}, "p"); };
    Tensor y = relu(conv2d(x, parameter({8, 3, 3, 3}), parameter({8}), {.padding = {1, 1}}));
    y = max_pool2d(y, {{3, 3}, {2, 2}, {1, 1}});
    y = add(y, conv2d(y, parameter({8, 4, 3, 3}), {}, {.padding = {1, 1}, .groups = 2}));
    y = dropout(avg_pool2d(duplicate(y)), 0.3);
    y = concat({y, avg_pool2d(upsample_nearest2d(y, {2, 3}), {{2, 3}, {2, 3}, {0, 0}})}, 1);
    y = conv2d(y, parameter({8, 16, 1, 1}));
    y = relu(batch_norm(y, parameter({8}), parameter({8})));
    y = add(flatten(y), flatten(max_pool2d(conv2d(x, parameter({8, 3, 1, 1}), parameter({8})),
                                           {{4, 4}, {4, 4}, {0, 0}})));
    y = relu(linear(y, parameter({70, 72}), parameter({70})));
    const Tensor logits = matmul(y, parameter({70, 10}));
    const Tensor loss = softmax_cross_entropy(logits, labels);
    const Tensor total = softmax_cross_entropy(logits, labels, Reduction::sum);
    (void)count_correct(logits, labels);
    const Tensor table = graph.input({{40, 6}}, "table");
    const Tensor picked = graph.input({{n}, DType::i32}, "picked");
    (void)gather(table, picked, {DType::f32, 3.0F});
    if (fuse) passes::fuse(graph);
    const Tensor one = graph.input({{}}, "one");
    const std::vector<Tensor> wanted = graph.column("parameters");
    (void)differentiate(loss, wanted, one);
    (void)differentiate(total, wanted, one);
    (void)relu_grad_by_signs(relu_signs(y), duplicate(y));
    (void)reorder(y = reshape(y, {n, 7, 5, 2}), Layout::channels_last);
    (void)reorder(reshape(y, {n, 70, 1, 1}), Layout::channels_last);

    run = std::make_unique<Evaluation>(graph);
    unsigned seed = 0;
    for (const Tensor& p : wanted) run->set(p, testing::spread(p.shape().count(), ++seed, 0.02F));
    run->set(x, testing::spread(x.shape().count(), ++seed, 0.002F));
    run->set(table, testing::spread(40 * 6, ++seed));
    Value rows({{n}, DType::i32});
    for (std::int32_t i = 0; i < n; ++i)
      rows.as<std::int32_t>()[static_cast<std::size_t>(i)] = 37 - 3 * i;
    run->set(picked, rows);
    run->set(labels, testing::labels({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, -7}));
    run->set(graph.rows(), testing::scalar(10));  // a short batch, which ends inside the last part
    run->set(one, std::vector{1.0F});
    Value steps(graph.step().spec());
    steps.as<std::int64_t>()[0] = 2;
    run->set(graph.step(), steps);
    run->run();
  }
};

/// The op in `parts` parts, put together again; `order` true: the last part first.
std::vector<Value> in_parts(const Node& node, const std::vector<Value>& inputs, const Cut& cut,
                            const std::vector<Spec>& outputs, std::int64_t parts, bool backwards) {
  std::int64_t length = 0;
  const auto note_length = [&](const Spec& spec, Share share) {
    if (share == Share::rows) length = spec.shape[0];
    if (share == Share::columns) length = spec.shape[1];
  };
  for (std::size_t i = 0; i < inputs.size(); ++i) note_length(inputs[i].spec, cut.input(i));
  for (std::size_t i = 0; i < outputs.size(); ++i) note_length(outputs[i], cut.output(i));
  std::vector<Value> whole, sums;
  for (const Spec& spec : outputs) whole.emplace_back(spec);
  for (std::int64_t step = 0; step < parts; ++step) {
    const std::int64_t part = backwards ? parts - 1 - step : step;
    const Rows rows{length * part / parts, length * (part + 1) / parts};
    std::vector<Value> given = sums;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const Share share = cut.input(i);
      given.push_back(share == Share::rows      ? inputs[i].rows(rows.begin, rows.end)
                      : share == Share::columns ? inputs[i].columns(rows.begin, rows.end)
                                                : inputs[i]);
    }
    const Attributes attributes =
        cut.part == nullptr ? node.attributes : cut.part(node.attributes, rows);
    const std::vector<Value> made =
        testing::run_op(sums.empty() ? *node.op : *node.op->adds, attributes, given);
    sums.clear();
    for (std::size_t i = 0; i < made.size(); ++i) {
      if (cut.output(i) == Share::sum) {
        sums.push_back(made[i]);
        whole[i] = made[i];
      } else {
        REQUIRE(cut.output(i) != Share::whole);
        cut.output(i) == Share::rows ? whole[i].put_rows(made[i], rows.begin)
                                     : whole[i].put_columns(made[i], rows.begin);
      }
    }
  }
  return whole;
}

double gap(const Value& a, const Value& b) {
  if (a.spec.dtype == DType::f32) return testing::difference(a, b);
  if (a.spec.dtype == DType::f64 && a.spec == b.spec) {
    double worst = 0.0;
    for (std::size_t i = 0; i < a.as<double>().size(); ++i) {
      const double apart = std::abs(a.as<double>()[i] - b.as<double>()[i]);
      worst = std::isnan(apart) ? INFINITY : std::max(worst, apart);
    }
    return worst;
  }
  return a.same_bits(b) ? 0.0 : 1.0;
}

TEST_CASE("promises: an op in parts agrees with the whole, in any order of the parts") {
  std::set<std::string_view> tried;
  for (const bool fuse : {false, true}) {
    const Step step(fuse);
    for (const Node& node : step.graph.nodes) {
      if (node.op->cuts == nullptr) continue;
      const std::vector<Value> inputs = step.run->inputs(node);
      std::vector<Spec> in;
      for (const Value& value : inputs) in.push_back(value.spec);
      const std::vector<Value> whole = testing::run_op(*node.op, node.attributes, inputs);
      std::vector<Spec> out;
      for (const Value& value : whole) out.push_back(value.spec);
      int which = 0;
      for (const Cut& cut : node.op->cuts({in, out, node.attributes})) {
        CAPTURE(node.op->name);
        CAPTURE(which++);
        for (const bool backwards : {false, true}) {
          const auto together = in_parts(node, inputs, cut, out, 3, backwards);
          for (std::size_t i = 0; i < whole.size(); ++i) CHECK(gap(together[i], whole[i]) < 1e-5);
        }
        tried.insert(node.op->name);
      }
    }
  }
  for (const std::string_view name : {"add",
                                      "avg_pool2d",
                                      "avg_pool2d_grad",
                                      "batch_norm",
                                      "batch_norm_grad",
                                      "batch_norm_grad_sums",
                                      "batch_norm_sums",
                                      "concat",
                                      "concat_grad",
                                      "conv2d",
                                      "conv2d_data",
                                      "conv2d_weights",
                                      "conv2d_weights_bias",
                                      "count_correct",
                                      "dropout",
                                      "dropout_grad",
                                      "duplicate",
                                      "matmul",
                                      "max_pool2d",
                                      "max_pool2d_grad",
                                      "relabel",
                                      "relu",
                                      "relu_grad",
                                      "relu_grad_by_signs",
                                      "reorder",
                                      "reshape",
                                      "softmax_cross_entropy",
                                      "softmax_cross_entropy_grad",
                                      "sum_rows",
                                      "upsample_nearest2d",
                                      "upsample_nearest2d_grad"}) {
    CAPTURE(name);
    CHECK(tried.contains(name));
  }
}

TEST_CASE("promises: an op that overwrites an input gives the same bits as one that does not") {
  std::set<std::string_view> tried;
  const Step step(false);
  for (const Node& node : step.graph.nodes) {
    if (node.op->overwrites < 0) continue;
    CAPTURE(node.op->name);
    const std::vector<Value> inputs = step.run->inputs(node);
    const auto apart = testing::run_op(*node.op, node.attributes, inputs);
    const auto aliased = testing::run_op(*node.op, node.attributes, inputs, /*alias=*/true);
    CHECK(apart[0].same_bits(aliased[0]));
    tried.insert(node.op->name);
  }
  CHECK(tried == std::set<std::string_view>{"add", "batch_norm", "batch_norm_grad", "dropout",
                                            "dropout_grad", "relu", "relu_grad",
                                            "relu_grad_by_signs", "softmax_cross_entropy_grad"});
}

}  // namespace
}  // namespace poolgrad

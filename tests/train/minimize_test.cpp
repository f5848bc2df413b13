// minimize(): what it reserves, what it appends, and what it leaves alone.
#include "train/minimize.h"

#include <algorithm>
#include <cstring>

#include <doctest/doctest.h>

#include "engine/ops.h"
#include "engine/program.h"

namespace poolgrad::train {
namespace {

/// Two layers that use one weight twice, and a parameter that the loss does not see.
struct Net {
  Graph graph;
  Tensor x, y, shared, unused, bias, loss;

  Net() {
    x = graph.input({{4, 6}}, "x");
    y = graph.input({{4}, DType::i64}, "y");
    shared = graph.parameter({6, 6}, Init::kaiming_uniform(6, 3), "shared");
    unused = graph.parameter({5}, Init::constant(2.0F), "unused");
    bias = graph.parameter({6}, Init::constant(0.0F), "bias");
    const Tensor hidden = relu(linear(x, shared, bias));
    loss = softmax_cross_entropy(linear(hidden, shared), y);
  }
};

void run(Program& program, const Net& net, int steps) {
  std::vector<float> x(24);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7 % 11) / 5.0F - 1.0F;
  std::vector<std::int64_t> y{0, 3, 5, 1};
  const std::array feeds{Feed{net.x, ArrayView::of(std::span(x), {4, 6}, DType::f32)},
                         Feed{net.y, ArrayView::of(std::span(y), {4}, DType::i64)}};
  for (int i = 0; i < steps; ++i) program.run("train", feeds);
}

std::vector<float> values(const Program& program, Tensor tensor) {
  const std::span<float> view = program.view(tensor).as<float>();
  return {view.begin(), view.end()};
}

TEST_CASE("minimize: parameters that the loss does not use are not touched, decay or not") {
  for (const Updates updates : {Updates::at_gradient, Updates::whole_column}) {
    const Net net;
    const Training training =
        minimize(net.loss, AdamW{.rate = 0.1F, .weight_decay = 0.5F}, {.updates = updates});
    Program program = compile(net.graph, {training.entry()});
    const std::vector<float> before = values(program, net.shared);
    run(program, net, 3);
    CHECK(values(program, net.unused) == std::vector(5, 2.0F));
    CHECK(values(program, net.shared) != before);
  }
}

TEST_CASE("minimize: a program that takes over weights and step goes on with the same dropout") {
  struct Dropping {
    Graph graph;
    Tensor loss;
    Training training;

    Tensor x;

    Dropping() {
      x = graph.input({{64, 16}}, "x");
      const Tensor weight = graph.parameter({10, 16}, Init::kaiming_uniform(16, 3), "weight");
      const Tensor labels = graph.state({{64}, DType::i64}, Init::constant(4.0F), "y", "labels");
      const Tensor logits = linear(dropout(x, 0.25, 1), weight);
      loss = softmax_cross_entropy(dropout(logits, 0.5, 1), labels);
      training = minimize(loss, Sgd{.rate = 0.5F});
    }
    std::vector<float> losses(Program& program, int steps) const {
      std::vector<float> values(64 * 16), result;
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 7 % 11);
      const Feed feed{x, ArrayView::of(std::span(values), x.shape(), DType::f32)};
      for (int i = 0; i < steps; ++i) {
        program.run("train", std::span(&feed, 1));
        result.push_back(program.view(loss).as<float>()[0]);
      }
      return result;
    }
  };
  Dropping net;
  Program whole = compile(net.graph, {net.training.entry()});
  const std::vector<float> expected = net.losses(whole, 6);

  Program first = compile(net.graph, {net.training.entry()});
  CHECK(net.losses(first, 3) == std::vector(expected.begin(), expected.begin() + 3));
  Dropping again;
  Program second = compile(again.graph, {again.training.entry()});
  for (const auto& [column, name] : {std::pair{"parameters", "weight"}, {"counters", "step"}}) {
    const ArrayView from = first.find(column, name);
    std::memcpy(second.find(column, name).data, from.data, from.bytes());
  }
  CHECK(again.losses(second, 3) == std::vector(expected.begin() + 3, expected.end()));
}

TEST_CASE("minimize: a weight that is used twice gets the sum of both gradients") {
  const Net net;
  const Training training =
      minimize(net.loss, Sgd{.rate = 0.5F}, {.updates = {}, .keep_gradients = true});
  Program program = compile(net.graph, {training.entry(), {"evaluate", {net.loss}}});
  const auto loss = [&] {
    std::vector<float> x(24);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7 % 11) / 5.0F - 1.0F;
    std::vector<std::int64_t> y{0, 3, 5, 1};
    program.run("evaluate", std::array{Feed{net.x, ArrayView::of(std::span(x), {4, 6}, DType::f32)},
                                       Feed{net.y, ArrayView::of(std::span(y), {4}, DType::i64)}});
    return static_cast<double>(program.view(net.loss).as<float>()[0]);
  };
  const std::vector<float> start = values(program, net.shared);
  run(program, net, 1);
  const std::vector<float> gradient = values(program, training.gradients[0]);
  std::ranges::copy(start, program.view(net.shared).as<float>().begin());
  std::ranges::fill(program.view(net.bias).as<float>(), 0.0F);
  for (std::size_t i = 0; i < start.size(); i += 5) {
    float& weight = program.view(net.shared).as<float>()[i];
    constexpr float kStep = 1e-2F;
    weight = start[i] + kStep;
    const double above = loss();
    weight = start[i] - kStep;
    const double below = loss();
    weight = start[i];
    CHECK(gradient[i] == doctest::Approx((above - below) / (2 * kStep)).epsilon(2e-2));
  }
}

TEST_CASE("minimize: kept gradients form one column in the order of the parameters") {
  const Net net;
  const Training training =
      minimize(net.loss, Sgd{.rate = 0.25F}, {.updates = {}, .keep_gradients = true});
  Program program = compile(net.graph, {training.entry()});
  const std::vector<float> before = values(program, net.shared);
  run(program, net, 1);
  REQUIRE(training.gradients.size() == 3);
  CHECK(net.graph.name(training.gradients[0].id) == "gradients.shared");
  CHECK(program.column("gradients").shape == program.column("parameters").shape);
  const std::vector<float> gradient = values(program, training.gradients[0]);
  const std::vector<float> after = values(program, net.shared);
  for (std::size_t i = 0; i < after.size(); ++i)
    CHECK(after[i] == doctest::Approx(before[i] - 0.25F * gradient[i]).epsilon(1e-6));
  CHECK(values(program, training.gradients[1]) == std::vector(5, 0.0F));  // unused
}

TEST_CASE("minimize: gaps between the parts of every column stay zero") {
  const Net net;
  const Training training = minimize(net.loss, Adam{.rate = 0.1F},
                                     {.updates = Updates::whole_column, .keep_gradients = true});
  Program program = compile(net.graph, {training.entry()});
  run(program, net, 5);
  for (const char* column : {"parameters", "adam.first", "adam.second", "gradients"}) {
    CAPTURE(column);
    const std::span<float> flat = program.column(column).as<float>();
    for (const std::size_t gap : {36U, 47U, 53U, 63U, 70U, 79U}) CHECK(flat[gap] == 0.0F);
  }
}

TEST_CASE("minimize: two parameters with one gradient, and a gradient that is a view") {
  // d loss / d left and d loss / d right are the same tensor; bias goes through a reshape.
  for (const Updates updates : {Updates::at_gradient, Updates::whole_column}) {
    Graph graph;
    const Tensor y = graph.input({{2}, DType::i64}, "y");
    const Tensor left = graph.parameter({2, 8}, Init::kaiming_uniform(8, 1), "left");
    const Tensor right = graph.parameter({2, 8}, Init::constant(0.0F), "right");
    const Tensor flat = graph.parameter({16}, Init::constant(0.0F), "flat");
    const Tensor sum = add(add(left, right), reshape(flat, {2, 8}));
    const Training training = minimize(softmax_cross_entropy(sum, y), Sgd{.rate = 1.0F},
                                       {.updates = updates, .keep_gradients = true});
    Program program = compile(graph, {training.entry()});
    std::vector<std::int64_t> labels{7, 2};
    program.run("train", std::array{Feed{y, ArrayView::of(std::span(labels), {2}, DType::i64)}});
    const std::vector<float> moved = values(program, right);
    CHECK(moved[7] > 0.0F);
    CHECK(values(program, flat) == moved);
    CHECK(values(program, training.gradients[1]) == values(program, training.gradients[0]));
    CHECK(values(program, training.gradients[2]) == values(program, training.gradients[0]));
  }
}

TEST_CASE("minimize: the step counter counts training steps and nothing else") {
  Net net;
  const Training training = minimize(net.loss, Adam{});
  const Tensor step = net.graph.step();
  Program program = compile(net.graph, {training.entry(), {"evaluate", {net.loss}}});
  run(program, net, 3);
  program.run("evaluate");
  CHECK(program.view(step).as<std::int64_t>()[0] == 3);
}

TEST_CASE("minimize: what it cannot do is said with the remedy") {
  Net net;
  CHECK_THROWS_AS((void)minimize(net.loss, Adam{.rate = -1.0F}), ArgumentError);
  CHECK_THROWS_WITH_AS((void)minimize(net.x, Adam{}),
                       "minimize: the loss 'x' [4, 6] is not a scalar; reduce it to one",
                       ShapeError);
  CHECK_THROWS_AS((void)minimize({}, Adam{}), ShapeError);
  Graph bare;
  const Tensor loss =
      softmax_cross_entropy(bare.input({{2, 3}}, "x"), bare.input({{2}, DType::i64}, "y"));
  CHECK_THROWS_WITH_AS((void)minimize(loss, Adam{}),
                       "minimize: the graph has no parameters; make some with Graph::parameter()",
                       ShapeError);
}

}  // namespace
}  // namespace poolgrad::train

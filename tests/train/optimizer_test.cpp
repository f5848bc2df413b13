// Settings of optimizers, and what their updates do to numbers.
#include "train/optimizer.h"

#include <cmath>
#include <limits>
#include <random>

#include <doctest/doctest.h>

#include "engine/program.h"
#include "train/minimize.h"
#include "train/updates.h"

namespace poolgrad::train {
namespace {

TEST_CASE("optimizer: an impossible setting is named with its value and the remedy") {
  CHECK_THROWS_WITH_AS(check(Adam{.rate = -1.0F}),
                       "adam: learning rate is -1; it must be 0 or more", ArgumentError);
  CHECK_THROWS_WITH_AS(check(AdamW{.rate = std::numeric_limits<float>::quiet_NaN()}),
                       "adamw: learning rate is nan; it must be 0 or more", ArgumentError);
  CHECK_THROWS_WITH_AS(check(Sgd{.momentum = 1.0F}),
                       "sgd: momentum is 1; it must be 0 or more and less than 1", ArgumentError);
  CHECK_THROWS_WITH_AS(check(Sgd{.weight_decay = std::numeric_limits<float>::infinity()}),
                       "sgd: weight decay is inf; it must be 0 or more", ArgumentError);
  CHECK_THROWS_WITH_AS(check(Sgd{.nesterov = true}),
                       "sgd: nesterov needs a momentum above 0; set one or switch nesterov off",
                       ArgumentError);
  CHECK_THROWS_AS(check(Adam{.beta2 = 1.5}), ArgumentError);
  CHECK_NOTHROW(check(Adam{.rate = 0.0F}));
}

/// A graph with one parameter and a slot for its gradient, and the optimizer's update of it.
struct Bench {
  Graph graph;
  Tensor weight, gradient, rate, first, second;
  Program program;

  Bench(const Optimizer& optimizer, std::int64_t n)
      : weight(graph.parameter({n}, Init::constant(0.0F), "weight")),
        gradient(graph.input({{n}}, "gradient", /*batched=*/false)),
        rate(graph.state({}, Init::constant(std::visit([](auto s) { return s.rate; }, optimizer)),
                         "rate", "settings")),
        program(compile(graph, {{"step", {}, append(optimizer, n)}})) {}

  std::function<std::vector<int>(Graph&)> append(const Optimizer& optimizer, std::int64_t n) {
    const Spec spec{{n}};
    first = graph.state(spec, {}, "first", "first");
    second = graph.state(spec, {}, "second", "second");
    const Tensor step = graph.step();
    return [=, this](Graph& g) -> std::vector<int> {
      const auto here = [&](Tensor t) { return g.handle(t.id); };
      Tensor updated;
      if (const auto* s = std::get_if<Sgd>(&optimizer)) {
        updated = sgd(here(weight), s->momentum == 0.0F ? Tensor{} : here(first), here(gradient),
                      here(rate), *s);
      } else if (const auto* a = std::get_if<Adam>(&optimizer)) {
        updated = adam(here(weight), here(first), here(second), here(gradient), here(rate),
                       here(step), *a);
      } else {
        updated = adamw(here(weight), here(first), here(second), here(gradient), here(rate),
                        here(step), std::get<AdamW>(optimizer));
      }
      return {updated.id, tick(here(step)).id};
    };
  }

  std::span<float> values() { return program.view(weight).as<float>(); }

  void step(std::vector<float>& g) {
    const std::array feeds{Feed{
        gradient, ArrayView::of(std::span(g), {static_cast<std::int64_t>(g.size())}, DType::f32)}};
    program.run("step", feeds);
  }
};

/// torch 2.x on a CPU, float32: Parameter([0.5, -1.5, 2.0]), gradients [0.1·(k+1), -0.2, 0.05·k]
/// for k in 0..3, one optimizer.step() each; the parameter after four steps.
TEST_CASE("optimizers: four steps end where PyTorch's do") {
  struct Case {
    const char* name;
    Optimizer optimizer;
    std::array<float, 3> torch;
  };
  const std::vector<Case> cases{
      {"SGD(lr=.1)", Sgd{.rate = 0.1F}, {0.40000001F, -1.42000008F, 1.97000003F}},
      {"SGD(lr=.1, weight_decay=.01)",
       Sgd{.rate = 0.1F, .weight_decay = 0.01F},
       {0.39810294F, -1.41412878F, 1.96203208F}},
      {"SGD(lr=.1, momentum=.9, weight_decay=.01)",
       Sgd{.rate = 0.1F, .momentum = 0.9F, .weight_decay = 0.01F},
       {0.31008860F, -1.30574369F, 1.93440866F}},
      {"SGD(lr=.1, momentum=.9, weight_decay=.01, nesterov=True)",
       Sgd{.rate = 0.1F, .momentum = 0.9F, .weight_decay = 0.01F, .nesterov = true},
       {0.22743203F, -1.23963892F, 1.90307295F}},
      {"Adam(lr=.01)", Adam{.rate = 0.01F}, {0.46116409F, -1.46000004F, 1.97555792F}},
      {"Adam(lr=.01, weight_decay=.1)",
       Adam{.rate = 0.01F, .weight_decay = 0.1F},
       {0.46061379F, -1.46000659F, 1.95996046F}},
      {"AdamW(lr=.01, weight_decay=.1)",
       AdamW{.rate = 0.01F, .weight_decay = 0.1F},
       {0.45922595F, -1.45406902F, 1.96759319F}},
  };
  for (const Case& c : cases) {
    CAPTURE(c.name);
    Bench bench(c.optimizer, 3);
    std::ranges::copy(std::array{0.5F, -1.5F, 2.0F}, bench.values().begin());
    for (int k = 0; k < 4; ++k) {
      const auto t = static_cast<float>(k);
      std::vector<float> gradient{0.1F * (t + 1), -0.2F, 0.05F * t};
      bench.step(gradient);
    }
    for (std::size_t i = 0; i < 3; ++i)
      CHECK(bench.values()[i] == doctest::Approx(c.torch[i]).epsilon(1e-6));
  }
}

TEST_CASE("adam: a thousand steps agree with the definition in f64, at any length") {
  constexpr std::int64_t kCount = 37;  // no multiple of any vector's width
  const Adam s{.rate = 0.01F, .weight_decay = 0.02F};
  Bench bench(s, kCount);
  std::vector<double> w(kCount, 0.0), m(kCount, 0.0), v(kCount, 0.0);
  std::mt19937 random(5);
  for (int step = 1; step <= 1000; ++step) {
    std::vector<float> gradient(kCount);
    for (float& g : gradient) g = static_cast<float>(random() % 2001) / 1000.0F - 1.0F;
    bench.step(gradient);
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double g = gradient[i] + s.weight_decay * w[i];
      m[i] = s.beta1 * m[i] + (1 - s.beta1) * g;
      v[i] = s.beta2 * v[i] + (1 - s.beta2) * g * g;
      w[i] -= s.rate * m[i] / (1 - std::pow(s.beta1, step)) /
              (std::sqrt(v[i] / (1 - std::pow(s.beta2, step))) + s.epsilon);
    }
  }
  for (std::size_t i = 0; i < w.size(); ++i)
    CHECK(bench.values()[i] == doctest::Approx(w[i]).epsilon(1e-4));
}

TEST_CASE("adam: the first step is the learning rate, whatever the gradient's size") {
  for (const float size : {1e-3F, 1.0F, 1e4F}) {
    Bench bench(Adam{.rate = 0.01F}, 2);
    std::vector<float> gradient{size, -size};
    bench.step(gradient);
    CHECK(bench.values()[0] == doctest::Approx(-0.01).epsilon(1e-4));
    CHECK(bench.values()[1] == doctest::Approx(0.01).epsilon(1e-4));
  }
}

TEST_CASE("optimizers: the learning rate is a tensor that can be written between steps") {
  Bench bench(Sgd{.rate = 0.5F}, 1);
  std::vector<float> gradient{1.0F};
  bench.step(gradient);
  bench.program.view(bench.rate).as<float>()[0] = 0.25F;
  bench.step(gradient);
  CHECK(bench.values()[0] == -0.75F);
}

TEST_CASE("sgd: a gradient of another shape is an error that names both") {
  Graph graph;
  const Tensor weight = graph.parameter({2, 3}, {}, "w");
  const Tensor rate = graph.state({}, {}, "rate", "settings");
  CHECK_THROWS_WITH_AS(sgd(weight, {}, graph.input({{3, 2}}, "g"), rate, {}),
                       "sgd: weight [2, 3] but input 1 is [3, 2]; weight, moments and gradient "
                       "have one shape",
                       ShapeError);
}

}  // namespace
}  // namespace poolgrad::train

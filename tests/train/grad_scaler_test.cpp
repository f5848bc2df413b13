// Loss scales and clipped norms: what they do to numbers, beside PyTorch, and that a skipped step
// changes nothing. Whole trainings with them are in tests/models/f16_test.cpp.
#include "train/grad_scaler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <doctest/doctest.h>

#include "engine/program.h"
#include "train/minimize.h"

namespace poolgrad::train {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST_CASE("grad scaler: an impossible setting is named with its value and the range") {
  CHECK_THROWS_WITH_AS(check(GradScaler{.init_scale = 0.0F}),
                       "grad scaler: init_scale is 0; it must be above 0", ArgumentError);
  CHECK_THROWS_WITH_AS(check(GradScaler{.growth_factor = 0.5F}),
                       "grad scaler: growth_factor is 0.5; it must be 1 or more", ArgumentError);
  CHECK_THROWS_WITH_AS(check(GradScaler{.backoff_factor = 2.0F}),
                       "grad scaler: backoff_factor is 2; it must be above 0 and at most 1",
                       ArgumentError);
  CHECK_THROWS_WITH_AS(check(GradScaler{.growth_interval = 0}),
                       "grad scaler: growth_interval is 0; it must be 1 or more", ArgumentError);
  CHECK_THROWS_AS(check(GradScaler{.init_scale = kNan}), ArgumentError);
  CHECK_THROWS_AS(check(GradScaler{.growth_factor = kInf}), ArgumentError);
  CHECK_NOTHROW(check(GradScaler{}));
  CHECK_NOTHROW(check(GradScaler::fixed(128.0F)));
}

// ---- numbers

/// x · factor, which is a scalar.
constexpr OpDef kTimes{
    .name = "times",
    .infer = same_as_first,
    .cpu = [](const Site& site) -> Kernel {
      return {[n = site.inputs[0].shape.count()](const Args& a) {
        for (std::int64_t i = 0; i < n; ++i)
          a.out<float>()[i] = a.in<float>(0)[i] * *a.in<float>(1);
      }};
    },
};

/// A loss whose gradient of `weight` is what is fed as `slopes`; its own value is 0.
constexpr OpDef kAlong{
    .name = "along",  // loss so far, weight, slopes -> []
    .infer = same_as_first,
    .backward = [](const Backward& b) -> std::vector<Tensor> {
      return {b.dy[0], b.dy[0].graph->add(kTimes, {b.inputs[2], b.dy[0]})[0], {}};
    },
    .cpu = [](const Site&) -> Kernel {
      return {[](const Args& a) { *a.out<float>() = *a.in<float>(0); }};
    },
};

/// Two parameters with the gradients they are fed.
struct Fed {
  Graph graph;
  Tensor first, second, first_slopes, second_slopes, loss;
  Training training;
  Program program;

  Fed(const Optimizer& optimizer, const MinimizeOptions& options)
      : first(graph.parameter({3}, {}, "first")),
        second(graph.parameter({1}, {}, "second")),
        first_slopes(graph.input({{3}}, "first slopes", /*batched=*/false)),
        second_slopes(graph.input({{1}}, "second slopes", /*batched=*/false)),
        loss(graph.state({}, {}, "nothing", "settings")),
        training(minimize(sum(), optimizer, options)),
        program(compile(graph, {training.entry()})) {
    std::ranges::copy(std::array{0.5F, -1.5F, 2.0F}, program.view(first).as<float>().begin());
    program.view(second).as<float>()[0] = 1.0F;
  }
  Tensor sum() {
    loss = graph.add(kAlong, {loss, first, first_slopes})[0];
    return loss = graph.add(kAlong, {loss, second, second_slopes})[0];
  }
  void step(std::array<float, 3> a, float b) {
    program.run(
        "train",
        std::array{Feed{first_slopes, ArrayView::of(std::span<float>(a), {3}, DType::f32)},
                   Feed{second_slopes, ArrayView::of(std::span<float>(&b, 1), {1}, DType::f32)}});
  }
  [[nodiscard]] float scale() const { return program.view(training.scale).as<float>()[0]; }
  [[nodiscard]] std::int64_t count(std::string_view column, std::string_view name) const {
    return program.find(column, name).as<std::int64_t>()[0];
  }
  void check_weights(const std::array<float, 4>& expected) const {
    for (std::size_t i = 0; i < 3; ++i)
      CHECK(program.view(first).as<float>()[i] == doctest::Approx(expected[i]).epsilon(1e-6));
    CHECK(program.view(second).as<float>()[0] == doctest::Approx(expected[3]).epsilon(1e-6));
  }
};

std::array<float, 3> slopes(int k) {
  const auto t = static_cast<float>(k);
  return {0.1F * (t + 1), -0.2F, 0.05F * t};
}

/// torch 2.x on a CPU, float32: Parameter([0.5, -1.5, 2.0]) and Parameter([1.0]) under
/// torch.amp.GradScaler("cpu", init_scale=1024, growth_interval=2), whose gradients are set to the
/// scale times [0.1·(k+1), -0.2, 0.05·k] and [0.3·k - 0.5] for k in 0..6, the latter to inf for 3
/// and to NaN for 4; step() and update() each. The parameters after seven steps.
TEST_CASE("grad scaler: seven steps, two of which are skipped, end where PyTorch's do") {
  struct Case {
    const char* name;
    Optimizer optimizer;
    std::array<float, 4> torch;
  };
  const std::vector<Case> cases{
      {"SGD(lr=.1)", Sgd{.rate = 0.1F}, {0.310000002F, -1.4000001F, 1.93000007F, 0.829999924F}},
      {"SGD(lr=.1, momentum=.9, weight_decay=.01)",
       Sgd{.rate = 0.1F, .momentum = 0.9F, .weight_decay = 0.01F},
       {0.118938446F, -1.21806788F, 1.8520869F, 0.912421525F}},
      {"SGD(lr=.1, momentum=.9, nesterov=True)",
       Sgd{.rate = 0.1F, .momentum = 0.9F, .nesterov = true},
       {-0.0275278669F, -1.16340613F, 1.8203845F, 0.763791621F}},
      {"Adam(lr=.01, weight_decay=.1)",
       Adam{.rate = 0.01F, .weight_decay = 0.1F},
       {0.451549649F, -1.45001268F, 1.95017362F, 1.0102098F}},
      {"AdamW(lr=.01, weight_decay=.1)",
       AdamW{.rate = 0.01F, .weight_decay = 0.1F},
       {0.449995339F, -1.44261503F, 1.95763505F, 1.01100636F}},
  };
  for (const Case& c : cases) {
    for (const Updates when : {Updates::at_gradient, Updates::whole_column}) {
      CAPTURE(c.name);
      Fed fed(c.optimizer,
              {.updates = when,
               .grad_scaler = GradScaler{.init_scale = 1024.0F, .growth_interval = 2}});
      constexpr std::array kScales{1024.0F, 2048.0F, 2048.0F, 1024.0F, 512.0F, 512.0F, 1024.0F};
      for (int k = 0; k < 7; ++k) {
        fed.step(slopes(k), k == 3 ? kInf : k == 4 ? kNan : 0.3F * static_cast<float>(k) - 0.5F);
        CHECK(fed.scale() == kScales[static_cast<std::size_t>(k)]);
      }
      fed.check_weights(c.torch);
      CHECK(fed.count("scaler", "skipped") == 2);
      CHECK(fed.count("counters", "step") == 5);
    }
  }
}

/// The same gradients, k in 0..3, under torch.nn.utils.clip_grad_norm_(parameters, 0.5); their
/// norms are 0.548, 0.35, 0.387 and 0.618.
TEST_CASE("clip_grad_norm: four steps, two of which are clipped, end where PyTorch's do") {
  struct Case {
    const char* name;
    Optimizer optimizer;
    std::array<float, 4> torch;
  };
  const std::vector<Case> cases{
      {"SGD(lr=.1, momentum=.9)",
       Sgd{.rate = 0.1F, .momentum = 0.9F},
       {0.325068414F, -1.32884383F, 1.95532322F, 1.15982985F}},
      {"Adam(lr=.01)", Adam{.rate = 0.01F}, {0.461237311F, -1.46004856F, 1.97540009F, 1.02556729F}},
  };
  for (const Case& c : cases) {
    for (const Updates when : {Updates::at_gradient, Updates::whole_column}) {
      for (const bool scaled : {false, true}) {  // the norm is that of what is divided by the scale
        CAPTURE(c.name);
        CAPTURE(scaled);
        MinimizeOptions options{.updates = when, .clip_grad_norm = 0.5F};
        if (scaled) options.grad_scaler = GradScaler{};
        Fed fed(c.optimizer, options);
        for (int k = 0; k < 4; ++k) fed.step(slopes(k), 0.3F * static_cast<float>(k) - 0.5F);
        fed.check_weights(c.torch);
      }
    }
  }
}

TEST_CASE("clip_grad_norm: 1e-6 is added to the norm, as PyTorch does") {
  Fed fed(Sgd{.rate = 1.0F}, {.clip_grad_norm = 1e-6F});
  fed.program.view(fed.second).as<float>()[0] = 0.0F;
  fed.step({0.0F, 0.0F, 0.0F}, 1e-5F);
  CHECK(fed.program.view(fed.second).as<float>()[0] == doctest::Approx(-1e-6 / 1.1).epsilon(1e-4));
}

TEST_CASE(
    "clip_grad_norm: without a scaler what is not finite is no reason to skip, as in PyTorch") {
  Fed fed(Sgd{.rate = 0.1F}, {.clip_grad_norm = 0.5F});
  fed.step({1.0F, 1.0F, 1.0F}, kInf);
  CHECK(fed.program.view(fed.first).as<float>()[0] == 0.5F);  // minus rate · 0
  CHECK(std::isnan(fed.program.view(fed.second).as<float>()[0]));
  CHECK(fed.count("counters", "step") == 1);
}

TEST_CASE(
    "grad scaler: large gradients are finite, and a scale stops growing before it overflows") {
  Fed fed(Sgd{.rate = 0.0F},
          {.grad_scaler = GradScaler{.init_scale = 0x1p127F, .growth_interval = 1}});
  fed.step({1.0F, 1.0F, -1.0F}, 0.0F);  // squares of f32 that f32 has not
  CHECK(fed.count("scaler", "skipped") == 0);
  CHECK(fed.scale() == 0x1p127F);
  fed.step({2.0F, 0.0F, 0.0F}, 0.0F);
  CHECK(fed.count("scaler", "skipped") == 1);
  CHECK(fed.scale() == 0x1p126F);
}

TEST_CASE("grad scaler: however many steps are skipped, the first good one counts") {
  Fed fed(Sgd{.rate = 0.5F}, {.grad_scaler = GradScaler{.init_scale = 1.0F}});
  for (int i = 0; i < 200; ++i) fed.step({1.0F, 1.0F, 1.0F}, kNan);
  CHECK(fed.scale() == std::numeric_limits<float>::min());
  fed.step({1.0F, 0.0F, 0.0F}, 1.0F);
  fed.check_weights({0.0F, -1.5F, 2.0F, 0.5F});
}

TEST_CASE("grad scaler: a fixed scale skips and stays") {
  Fed fed(Sgd{.rate = 0.5F}, {.grad_scaler = GradScaler::fixed(3.0F)});
  fed.step({1.0F, kInf, 1.0F}, 1.0F);
  fed.check_weights({0.5F, -1.5F, 2.0F, 1.0F});
  fed.step({1.0F, 0.0F, 0.0F}, 1.0F);
  fed.check_weights({0.0F, -1.5F, 2.0F, 0.5F});
  CHECK(fed.scale() == 3.0F);
  CHECK(fed.count("scaler", "skipped") == 1);
}

TEST_CASE("minimize: a norm to clip to is above 0, and settings of a scaler are looked at") {
  CHECK_THROWS_WITH_AS(Fed(Sgd{}, {.clip_grad_norm = 0.0F}),
                       "minimize: gradients clipped to a norm of 0; it must be above 0",
                       ArgumentError);
  CHECK_THROWS_AS(Fed(Sgd{}, {.clip_grad_norm = kNan}), ArgumentError);
  CHECK_THROWS_AS(Fed(Sgd{}, {.grad_scaler = GradScaler{.init_scale = -1.0F}}), ArgumentError);
}

}  // namespace
}  // namespace poolgrad::train

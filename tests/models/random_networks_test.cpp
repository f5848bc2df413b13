// The contract over random networks: what the plan predicts is what is measured, to the byte, and
// memory modes, teams and budgets change no bit, whatever the network, optimizer, precision and the
// passes.
#include <algorithm>
#include <cstdlib>
#include <optional>
#include <random>
#include <set>

#include <doctest/doctest.h>

#include "engine/program.h"
#include "layers/batch_norm.h"
#include "layers/conv2d.h"
#include "layers/linear.h"
#include "layers/stateless.h"
#include "memory/adaptors.h"
#include "tests/repeat.h"
#include "train/task.h"

namespace poolgrad {
namespace {

constexpr unsigned kNetworks = testing::times(200, 60);

/// Equal on every machine: distributions of the standard library are not.
class Dice {
 public:
  explicit Dice(unsigned seed) : random_(seed) {}
  std::int64_t upto(std::int64_t most) {
    return static_cast<std::int64_t>(random_() % static_cast<unsigned>(most + 1));
  }
  bool one_in(std::int64_t n) { return upto(n - 1) == 0; }
  template <typename T>
  T any(std::initializer_list<T> choices) {
    return choices.begin()[upto(static_cast<std::int64_t>(choices.size()) - 1)];
  }

 private:
  std::mt19937 random_;
};

/// A network of random layers over images or features. Both of a task's calls throw the same dice,
/// so that use finds what training has made.
class Network {
 public:
  explicit Network(unsigned seed) : seed_(seed) {}

  Tensor operator()(Graph& graph, Tensor x, bool training) const {
    Builder build{graph, training, Dice(seed_)};
    const auto blocks = static_cast<int>(1 + build.dice.upto(4));
    if (x.shape().rank() == 4) {
      for (int i = 0; i < blocks; ++i) x = build.image_block(x);
      x = build.dice.one_in(2) ? global_avg_pool2d(x) : x;
    }
    x = flatten(x);
    for (auto i = build.dice.upto(2); i > 0; --i) x = build.dense_block(x);
    return build.layer(layers::Linear{x.shape()[1], 10, seed_}, x);
  }

 private:
  struct Builder {
    Graph& graph;
    bool training;
    Dice dice;
    int count = 0;

    Tensor layer(const layers::Layer& next, Tensor x) {
      x = layers::named(std::to_string(count++), next, graph, x, training);
      if (dice.one_in(12)) graph.keep(x);
      return x;
    }
    Tensor conv(Tensor x, std::int64_t outputs, std::int32_t stride) {
      const auto size = dice.any<std::int32_t>({1, 3, 3});
      const std::int32_t groups =
          x.shape()[1] % 2 == 0 && outputs % 2 == 0 && dice.one_in(5) ? 2 : 1;
      const std::int32_t padding = size / 2;
      const layers::Conv2d settings{
          x.shape()[1],
          outputs,
          {size, size},
          {.stride = {stride, stride}, .padding = {padding, padding}, .groups = groups},
          3,
          !dice.one_in(3)};
      return layer(settings, x);
    }
    /// Any order of what usually stands behind a convolution.
    Tensor behind(Tensor x) {
      if (dice.one_in(3)) x = layer(layers::BatchNorm2d{x.shape()[1]}, x);
      if (!dice.one_in(4)) x = layer(layers::ReLU{}, x);
      if (dice.one_in(4)) x = layer(layers::Dropout{0.25, 5}, x);
      return x;
    }
    Tensor image_block(Tensor x) {
      const Shape shape = x.shape();  // a copy: the table of tensors grows below
      const bool large = shape[2] >= 4, small = shape[2] <= 8;
      switch (dice.upto(6)) {
        case 0:  // residual
          return relu(add(x, behind(conv(behind(conv(x, shape[1], 1)), shape[1], 1))));
        case 1:  // a way across
          return concat({x, behind(conv(x, 4, 1)), x}, 1);
        case 2:  // down and up again, beside what was there
          if (!large || shape[2] % 2 != 0) break;
          return concat({x, layer(layers::Upsample{}, behind(conv(max_pool2d(x), 8, 1)))}, 1);
        case 3:
          if (!large) break;
          x = dice.one_in(2) ? layer(layers::MaxPool2d{{{3, 3}, {2, 2}, {1, 1}}}, x)
                             : layer(layers::AvgPool2d{}, x);
          return behind(x);
        case 4:
          if (!small) break;
          return behind(conv(layer(layers::Upsample{}, x), 8, 1));
        default:
          break;
      }
      x = behind(conv(x, dice.any<std::int64_t>({4, 8, 16}), large ? 1 + dice.one_in(3) : 1));
      return dice.one_in(3) && x.shape()[2] >= 2 ? layer(layers::MaxPool2d{}, x) : x;
    }
    Tensor dense_block(Tensor x) {
      x = layer(layers::Linear{x.shape()[1], dice.any<std::int64_t>({7, 32, 96}), 3}, x);
      if (!dice.one_in(4)) x = layer(layers::ReLU{}, x);
      if (dice.one_in(3)) x = layer(layers::Dropout{0.5, 5}, x);
      return dice.one_in(4) ? add(x, x) : x;
    }
  };

  unsigned seed_;
};

train::Optimizer any_optimizer(Dice& dice) {
  switch (dice.upto(4)) {
    case 0:
      return train::Sgd{.rate = 0.01F};
    case 1:
      return train::Sgd{.rate = 0.01F, .momentum = 0.9F};
    case 2:
      return train::Sgd{.rate = 0.01F, .momentum = 0.9F, .weight_decay = 1e-3F, .nesterov = true};
    case 3:
      return train::Adam{};
    default:
      return train::AdamW{.weight_decay = 0.1F};
  }
}

/// A network, how it is trained, and on what.
struct Case {
  train::TaskSpec spec;
  Options options;
  std::vector<float> x;
  std::vector<std::int64_t> y;

  explicit Case(unsigned seed) {
    Dice dice(seed);
    const std::int64_t side = dice.any<std::int64_t>({5, 8, 12});
    spec.sample = dice.one_in(4) ? Shape{dice.any<std::int64_t>({9, 50, 300})}
                                 : Shape{dice.any<std::int64_t>({1, 3}), side, side};
    spec.model = Network(seed);
    spec.batch = dice.any<std::int64_t>({2, 5, 13, 32});
    spec.optimizer = any_optimizer(dice);
    spec.minimize.updates = dice.any({train::Updates::at_gradient, train::Updates::whole_column});
    spec.minimize.keep_gradients = dice.one_in(4);
    options.threads = static_cast<int>(1 + dice.upto(3));
    options.chunks = dice.any({0, 1, 2, 5});
    options.use_team = !dice.one_in(3);
    options.adaptive = false;
    options.guard_bytes = 4096;
    for (bool Options::*pass :
         {&Options::fuse, &Options::fuse_updates, &Options::layout, &Options::recompute,
          &Options::schedule, &Options::in_place, &Options::order})
      options.*pass = !dice.one_in(4);
    x.resize(static_cast<std::size_t>(spec.batch * spec.sample.count()));
    y.resize(static_cast<std::size_t>(spec.batch));
    for (float& value : x) value = static_cast<float>(dice.upto(2000)) / 1000.0F - 1.0F;
    for (std::int64_t& label : y) label = dice.upto(9);
    options.precision = dice.any({DType::f32, DType::f32, DType::bf16, DType::f16});
  }
};

struct Outcome {
  std::vector<float> values;  // losses and logits, then all parameters, statistics and moments
  std::size_t predicted = 0, measured = 0;
  bool guarded = true, parted = false;
  std::set<std::string_view> ops;
};

/// Three steps, the second on fewer rows, and the other entries.
Outcome outcome(const train::Task& task, const Case& each, const Options& options) {
  Case data = each;
  Program program = compile(*task.graph, task.entries, options);
  Outcome result;
  const auto run = [&](const char* entry, std::int64_t rows, Tensor kept) {
    Shape shape = task.samples.shape();
    shape[0] = rows;
    const std::array feeds{
        Feed{task.samples,
             ArrayView::of(std::span(data.x).first(static_cast<std::size_t>(shape.count())), shape,
                           DType::f32)},
        Feed{task.labels, ArrayView::of(std::span(data.y).first(static_cast<std::size_t>(rows)),
                                        {rows}, DType::i64)}};
    program.run(entry, feeds);
    const auto values = program.view(kept).as<float>();
    result.values.insert(result.values.end(), values.begin(), values.end());
  };
  program.watch_peak();
  for (const std::int64_t rows :
       {each.spec.batch, std::max<std::int64_t>(2, each.spec.batch / 2), each.spec.batch})
    run("train", rows, task.training.loss);
  run("evaluate", each.spec.batch, task.test_loss);
  run("predict", each.spec.batch, task.logits);
  result.predicted = program.blueprint().predicted_peak_bytes();
  result.measured = program.measured_peak_bytes();
  result.guarded = program.guards_intact();
  for (const Entry& entry : program.blueprint().entries) {
    for (const Step& step : entry.steps) {
      result.ops.insert(entry.graph->nodes[static_cast<std::size_t>(step.node)].op->name);
      result.parted = result.parted || step.member > 0;
    }
  }
  for (const char* column : {"parameters", "statistics", "momentum", "adam.first", "adam.second"}) {
    if (task.graph->column(column).empty()) continue;
    const auto values = program.column(column).as<float>();
    result.values.insert(result.values.end(), values.begin(), values.end());
  }
  return result;
}

std::string describe(const Case& each) {
  const Options& o = each.options;
  return text("batch ", each.spec.batch, " of ", each.spec.sample, ", ", o.threads, " threads, ",
              o.chunks, " chunks, passes fuse ", o.fuse, " fuse_updates ", o.fuse_updates,
              " layout ", o.layout, " recompute ", o.recompute, " schedule ", o.schedule,
              " in_place ", o.in_place, ", precision ", o.precision);
}

/// A budget that holds, about half way to the smallest one; none where nothing can be saved.
std::optional<std::size_t> feasible_budget(const train::Task& task, const Options& options,
                                           std::size_t peak) {
  for (const int percent : {60, 75, 85, 95}) {
    Options tight = options;
    tight.budget_bytes = peak * static_cast<std::size_t>(percent) / 100;
    try {
      (void)draft(*task.graph, task.entries, tight);
      return tight.budget_bytes;
    } catch (const MemoryError&) {
      continue;
    }
  }
  return {};
}

TEST_CASE("random networks: predicted is measured, and memory changes no bit") {
  unsigned parted = 0, budgets = 0;
  std::set<std::string_view> ops;
  for (unsigned seed = 0; seed < kNetworks; ++seed) {
    const Case each(seed);
    CAPTURE(seed);
    CAPTURE(describe(each));
    const train::Task task = train::make_task(each.spec);
    const Outcome planned = outcome(task, each, each.options);
    REQUIRE(planned.measured == planned.predicted);
    REQUIRE(planned.guarded);

    Options direct = each.options;
    memory::HostResource heap;
    memory::Poison poisoned(heap);  // freed bytes are NaN
    direct.memory = seed % 2 == 0 ? Memory::direct : Memory::pooled;
    direct.resource = &poisoned;
    direct.use_team = !direct.use_team;
    direct.in_place = !direct.in_place;
    direct.schedule = !direct.schedule;
    direct.order = !direct.order;
    const Outcome asked = outcome(task, each, direct);
    REQUIRE(asked.values == planned.values);
    REQUIRE(asked.measured <= asked.predicted);
    if (each.options.threads == 1) REQUIRE(asked.measured == asked.predicted);
    parted += planned.parted;
    ops.insert(planned.ops.begin(), planned.ops.end());

    Options tight = each.options;
    const auto budget = feasible_budget(task, tight, planned.predicted);
    if (!budget) continue;
    tight.budget_bytes = *budget;
    const Outcome within = outcome(task, each, tight);
    REQUIRE(within.values == planned.values);
    REQUIRE(within.measured == within.predicted);
    REQUIRE(within.measured <= *budget);
    ++budgets;
  }
  CHECK(parted > kNetworks / 3);
  CHECK(budgets > kNetworks / 10);
  for (const std::string_view op : {"adam", "adamw", "sgd", "avg_pool2d_grad", "batch_norm_grad",
                                    "concat_grad", "conv2d_data", "dropout_grad", "cast", "matmul",
                                    "max_pool2d_grad", "relu_grad", "upsample_nearest2d_grad"}) {
    CAPTURE(op);
    CHECK(ops.contains(op));
  }
}

}  // namespace
}  // namespace poolgrad

// The loop, on data small enough to be learned in a moment.
#include "train/fit.h"

#include <cmath>
#include <limits>

#include <doctest/doctest.h>

#include "engine/ops.h"
#include "tests/train/clusters.h"
#include "train/batches.h"

namespace poolgrad::train {
namespace {

/// Four inputs, eight hidden, three outputs.
Tensor model(Graph& graph, Tensor x, bool) {
  std::vector<Tensor> p = graph.column("parameters");
  if (p.empty()) {
    const Init four = Init::kaiming_uniform(4, 7), eight = Init::kaiming_uniform(8, 7);
    p = {graph.parameter({8, 4}, four, "0.weight"), graph.parameter({8}, four, "0.bias"),
         graph.parameter({3, 8}, eight, "2.weight"), graph.parameter({3}, eight, "2.bias")};
  }
  return linear(relu(linear(x, p[0], p[1])), p[2], p[3]);
}

TaskSpec spec(std::int64_t batch = 16) {
  return {.model = model,
          .sample = {4},
          .batch = batch,
          .optimizer = Adam{.rate = 0.02F},
          .tables = tables_of(Problem().data)};
}

std::vector<float> weights(const Program& program) {
  const std::span<float> flat = program.column("parameters").as<float>();
  return {flat.begin(), flat.end()};
}

TEST_CASE("fit: a small problem is learned, epoch by epoch, short last batches included") {
  const Problem problem;
  const Task task = make_task(spec());
  Program program = compile(*task.graph, task.entries, {.guard_bytes = 256});
  int epochs = 0, steps = 0;
  const FitResult result =
      fit(task, program, problem.data, {.epochs = 20},
          {.on_step =
               [&](const StepReport& report) {
                 CHECK(report.of == 7);  // 6 batches of 16 and one of 4
                 CHECK(report.step == steps++ % 7 + 1);
               },
           .on_epoch = [&](const EpochReport& report) { CHECK(report.epoch == ++epochs); }});
  CHECK(epochs == 20);
  CHECK(result.steps == 140);
  CHECK(steps == 140);
  REQUIRE(result.epochs.size() == 20);
  CHECK(result.epochs.back().train_loss < 0.3 * result.epochs.front().train_loss);
  CHECK(result.epochs.back().test_accuracy > 0.9);
  CHECK(result.measured_peak_bytes == result.predicted_peak_bytes);
  CHECK(result.guards_intact);
  CHECK_FALSE(result.interrupted);
  CHECK(program.view(task.graph->step()).as<std::int64_t>()[0] == 140);
}

TEST_CASE("fit: the same seed gives the same weights, another one others") {
  const Problem problem;
  const auto trained = [&](std::uint64_t seed, int threads) {
    const Task task = make_task(spec());
    Program program = compile(*task.graph, task.entries, {.threads = threads});
    (void)fit(task, program, problem.data, {.epochs = 2, .seed = seed});
    return weights(program);
  };
  CHECK(trained(1, 1) == trained(1, 1));
  CHECK(trained(1, 2) == trained(1, 2));
  CHECK(trained(1, 1) != trained(2, 1));
}

TEST_CASE("fit: batches that a step gathers give the bits of batches that it is fed") {
  Problem problem;
  for (const int threads : {1, 2, 3}) {
    CAPTURE(threads);
    const auto options = poolgrad::Options{.threads = threads};
    const Task task = make_task(spec());
    Program program = compile(*task.graph, task.entries, options);
    (void)fit(task, program, problem.data, {.epochs = 2, .seed = 5});

    TaskSpec by_hand = spec();
    by_hand.tables.reset();
    const Task fed = make_task(by_hand);
    Program other = compile(*fed.graph, fed.entries, options);
    Batches batches(100, 16, 5);
    for (const int epoch : {1, 2}) {
      batches.shuffle(epoch);
      for (auto rows = batches.next(); !rows.empty(); rows = batches.next()) {
        std::vector<float> samples;
        std::vector<std::int64_t> labels;
        for (const std::int32_t row : rows) {
          const float* from = problem.train.samples.data() + std::ptrdiff_t{4} * row;
          samples.insert(samples.end(), from, from + 4);
          labels.push_back(problem.train.labels[static_cast<std::size_t>(row)]);
        }
        const auto count = static_cast<std::int64_t>(rows.size());
        const std::vector<Feed> feeds{
            {fed.samples, ArrayView::of(std::span(samples), {count, 4}, DType::f32)},
            {fed.labels, ArrayView::of(std::span(labels), {count}, DType::i64)}};
        other.run("train", feeds);
      }
    }
    CHECK(weights(program) == weights(other));
  }
}

TEST_CASE("fit: batches read ahead give the same bits, short last ones included") {
  const Problem problem;
  for (const int threads : {1, 2}) {
    for (const std::int64_t batch : {16, 50, 64, 100}) {  // the last of 100 samples: 4, 50, 36, 100
      CAPTURE(threads);
      CAPTURE(batch);
      std::vector<float> results[2];
      std::vector<double> losses[2];
      for (const bool ahead : {false, true}) {
        TaskSpec what = spec(batch);
        what.read_ahead = ahead;
        const Task task = make_task(what);
        Program program = compile(*task.graph, task.entries, {.threads = threads});
        const FitResult result = fit(task, program, problem.data, {.epochs = 4, .seed = 5});
        for (const EpochReport& epoch : result.epochs) {
          losses[ahead].push_back(epoch.train_loss);
          losses[ahead].push_back(epoch.test_loss);
        }
        results[ahead] = weights(program);
        if (threads == 1) CHECK(result.measured_peak_bytes == result.predicted_peak_bytes);
        CHECK(result.allocations.ours == 0);
      }
      CHECK(results[0] == results[1]);
      CHECK(losses[0] == losses[1]);
    }
  }
}

TEST_CASE("fit: what reading ahead takes is in the plan") {
  const auto bytes = [](bool ahead) {
    TaskSpec what = spec(16);
    what.read_ahead = ahead;
    const Task task = make_task(what);
    const Blueprint blueprint = draft(*task.graph, task.entries);
    return blueprint.persistent_bytes;
  };
  CHECK(bytes(true) - bytes(false) == 2 * (16 * 4 * sizeof(float) + 16 * sizeof(std::int64_t)));
}

TEST_CASE("fit: reading ahead, it can be stopped and go on") {
  Problem problem;
  TaskSpec what = spec(16);
  what.read_ahead = true;
  const Task task = make_task(what);
  Program program = compile(*task.graph, task.entries);
  int steps = 0;
  FitResult result = fit(task, program, problem.data, {.epochs = 3},
                         {.should_stop = [&] { return ++steps == 3; }});
  CHECK(result.interrupted);  // with a batch on its way
  CHECK(result.steps == 3);
  result = fit(task, program, problem.data, {.epochs = 1});
  CHECK_FALSE(result.interrupted);
  CHECK(result.steps == 7);
}

TEST_CASE("fit: a profile after reading ahead changes no byte; no batch is on its way meanwhile") {
  const Problem problem;
  TaskSpec what = spec(16);
  what.read_ahead = true;
  const Task task = make_task(what);
  std::vector<float> results[2];
  for (const bool profiled : {false, true}) {
    Program program = compile(*task.graph, task.entries);
    const FitResult result =
        fit(task, program, problem.data, {.epochs = 1, .profile_steps = profiled ? 2 : 0});
    CHECK(result.profile.has_value() == profiled);
    results[profiled] = weights(program);
  }
  CHECK(results[0] == results[1]);
}

TEST_CASE("fit: the data is lent for as long as it trains") {
  const Problem problem;
  const Task task = make_task(spec());
  Program program = compile(*task.graph, task.entries);
  (void)fit(task, program, problem.data, {.epochs = 1});
  CHECK_THROWS_WITH_AS(program.run("train"),
                       "run: entry 'train' reads table 'train.samples', which nobody lent; call "
                       "Program::lend() first",
                       ArgumentError);
}

TEST_CASE("fit: a profile of its steps changes no weight") {
  const Problem problem;
  const auto trained = [&](int profile_steps) {
    const Task task = make_task(spec());
    Program program = compile(*task.graph, task.entries, {.threads = 2});
    const FitResult result =
        fit(task, program, problem.data, {.epochs = 1, .profile_steps = profile_steps});
    CHECK(result.profile.has_value() == (profile_steps > 0));
    if (result.profile) CHECK(result.profile->steps == profile_steps);
    return weights(program);
  };
  CHECK(trained(3) == trained(0));
}

TEST_CASE("fit: stopped, it ends after the step and says so") {
  const Problem problem;
  const Task task = make_task(spec());
  Program program = compile(*task.graph, task.entries);
  int asked = 0;
  const FitResult result = fit(task, program, problem.data, {.epochs = 5},
                               {.should_stop = [&] { return ++asked == 10; }});
  CHECK(result.interrupted);
  CHECK(result.steps <= 10);
  CHECK(program.view(task.graph->step()).as<std::int64_t>()[0] == result.steps);
  for (const float weight : weights(program)) CHECK(std::isfinite(weight));
}

TEST_CASE("fit: a loss that is no number ends it, naming epoch and step") {
  Problem problem;
  problem.train.samples[40 * 4] = std::numeric_limits<float>::quiet_NaN();
  const Task task = make_task(spec(100));
  Program program = compile(*task.graph, task.entries);
  CHECK_THROWS_WITH_AS((void)fit(task, program, problem.data),
                       "fit: the loss became nan at step 1 of epoch 1; lower the learning rate",
                       DivergedError);
}

TEST_CASE("fit: a weight that is no number by the end of an epoch ends it, and nobody saves it") {
  const Problem problem;
  const Task task = make_task(spec());
  Program program = compile(*task.graph, task.entries);
  const auto spoil = [&](const StepReport& at) {  // behind the last loss
    if (at.step == at.of)
      program.column("parameters").as<float>()[0] = std::numeric_limits<float>::quiet_NaN();
  };
  int epochs = 0;
  CHECK_THROWS_WITH_AS(
      (void)fit(task, program, problem.data, {.epochs = 3},
                {.on_step = spoil, .on_epoch = [&](const EpochReport&) { ++epochs; }}),
      "fit: parameter '0.weight' is no longer finite after epoch 1; lower the learning rate",
      DivergedError);
  CHECK(epochs == 0);
}

TEST_CASE("fit: with a grad scaler a step whose loss is not finite is skipped and reported") {
  for (const int threads : {1, 2}) {
    Problem problem;
    problem.train.samples[7] = std::numeric_limits<float>::infinity();  // in one of seven batches
    TaskSpec what = spec();
    what.minimize.grad_scaler = GradScaler{.init_scale = 1024.0F, .growth_interval = 5};
    const Task task = make_task(what);
    Program program = compile(*task.graph, task.entries, {.threads = threads});
    const FitResult result = fit(task, program, problem.data, {.epochs = 20});
    REQUIRE(result.scaling.has_value());
    CHECK(result.scaling->skipped == 20);
    CHECK(result.scaling->scale == program.view(task.training.scale).as<float>()[0]);
    REQUIRE(result.epochs.size() == 20);
    CHECK(result.epochs[4].scaling->skipped == 5);
    CHECK(result.epochs.back().train_loss < 0.3 * result.epochs.front().train_loss);
    CHECK(result.epochs.back().test_accuracy > 0.9);
    CHECK(program.view(task.graph->step()).as<std::int64_t>()[0] == 20 * 6);
  }
  const Problem problem;
  const Task task = make_task(spec());
  Program program = compile(*task.graph, task.entries);
  CHECK_FALSE(fit(task, program, problem.data, {.epochs = 1}).scaling.has_value());
}

TEST_CASE("fit: where no scale helps, training ends with an error as it does without") {
  Problem problem;
  for (float& value : problem.train.samples) value = std::numeric_limits<float>::quiet_NaN();
  TaskSpec what = spec();
  what.minimize.grad_scaler = GradScaler{};
  const Task task = make_task(what);
  Program program = compile(*task.graph, task.entries);
  const std::vector<float> before = weights(program);
  CHECK_THROWS_WITH_AS((void)fit(task, program, problem.data),
                       "fit: the loss became nan at step 6 of epoch 3, and in the 19 before it, "
                       "which were skipped; lower the learning rate",
                       DivergedError);
  CHECK(weights(program) == before);
}

TEST_CASE("fit: data that does not fit the task is refused before the first step") {
  const Problem problem;
  const Task task = make_task(spec());
  Program program = compile(*task.graph, task.entries);
  CHECK_THROWS_AS((void)fit(task, program, problem.data, {.epochs = 0}), ArgumentError);
  Split wide = problem.data;
  wide.train.samples.shape = {50, 8};
  CHECK_THROWS_AS((void)fit(task, program, wide), ShapeError);
  CHECK_THROWS_WITH_AS(
      (void)fit(task, program, {problem.data.test, problem.data.train}),
      "fit: training data [30, 4] of float32 with labels [30] of int64 but the task was made for "
      "[100, 4] of float32 with labels [100] of int64; make it with .tables = tables_of(data)",
      ShapeError);
  Split narrow = problem.data;
  const std::vector<std::int32_t> labels(100);
  narrow.train.labels = ArrayView::of(std::span(labels), {100}, DType::i32);
  CHECK_THROWS_WITH_AS(
      (void)fit(task, program, narrow),
      "fit: training data [100, 4] of float32 with labels [100] of int32 but the task was made for "
      "[100, 4] of float32 with labels [100] of int64; make it with .tables = tables_of(data)",
      ShapeError);
  TaskSpec fed = spec();
  fed.tables.reset();
  CHECK_THROWS_WITH_AS((void)fit(make_task(fed), program, problem.data),
                       "fit: the task gathers no batches; give its spec .tables = tables_of(data)",
                       ArgumentError);
  Split many = problem.data;
  many.train.classes = 10;
  CHECK_THROWS_AS((void)fit(task, program, many), ShapeError);
  const Task large = make_task(spec(101));
  Program larger = compile(*large.graph, large.entries);
  CHECK_THROWS_WITH_AS((void)fit(large, larger, problem.data),
                       "batches: batch 101 of a data set of 100 samples; take 1 to 100",
                       ArgumentError);
}

TEST_CASE("fit: a test set smaller than a batch is measured whole") {
  Problem problem;
  const Task task = make_task(spec(64));
  Program program = compile(*task.graph, task.entries);
  const FitResult result = fit(task, program, problem.data, {.epochs = 1});
  const double right = result.epochs[0].test_accuracy * 30;
  CHECK(right == doctest::Approx(std::round(right)).epsilon(1e-9));
}

}  // namespace
}  // namespace poolgrad::train

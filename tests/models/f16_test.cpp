// Whole trainings in f16: the same bits whatever is switched, overflows on the way, and losses
// beside those of f32.
#include <doctest/doctest.h>

#include "memory/adaptors.h"
#include "models/cnn.h"
#include "models/mlp.h"
#include "tests/engine/small_images.h"
#include "train/task.h"

namespace poolgrad {
namespace {

constexpr std::int64_t kBatch = 64, kSide = 16;

struct Trained {
  std::vector<float> losses, weights;
  std::vector<float> scales;
  std::int64_t skipped = 0;

  [[nodiscard]] std::vector<float> bits() const {
    std::vector<float> all = losses;
    all.insert(all.end(), weights.begin(), weights.end());
    all.insert(all.end(), scales.begin(), scales.end());
    return all;
  }
};

Trained trained(const train::TaskSpec& spec, const Options& options, int steps = 40) {
  const train::Task task = train::make_task(spec);
  Options always = options;
  always.adaptive = false;
  Program program = compile(*task.graph, task.entries, always);
  testing::SmallImages images(kBatch, kSide);
  Trained result;
  for (int i = 0; i < steps; ++i) {
    program.run("train", images.feeds(task.samples, task.labels, i % 3 == 2 ? 37 : kBatch));
    result.losses.push_back(program.view(task.training.loss).as<float>()[0]);
    result.scales.push_back(program.view(task.training.scale).as<float>()[0]);
  }
  const auto weights = program.column("parameters").as<float>();
  result.weights.assign(weights.begin(), weights.end());
  if (task.training.skipped)
    result.skipped = program.view(task.training.skipped).as<std::int64_t>()[0];
  return result;
}

train::TaskSpec spec(bool images, const train::Optimizer& optimizer,
                     const train::MinimizeOptions& options) {
  constexpr std::array<std::int64_t, 1> kHidden{96};
  const train::Model model = images ? models::cnn({.height = kSide, .width = kSide})
                                    : models::mlp(kSide * kSide, kHidden, 10);
  return {.model = model,
          .sample = {1, kSide, kSide},
          .batch = kBatch,
          .optimizer = optimizer,
          .minimize = options};
}

TEST_CASE("f16: memory modes, passes and who runs it change no bit, nor where updates are") {
  // Of so large a scale the first steps overflow.
  const train::MinimizeOptions options{
      .grad_scaler = train::GradScaler{.init_scale = 0x1p30F, .growth_interval = 10},
      .clip_grad_norm = 0.5F};
  for (const bool images : {true, false}) {
    for (const int threads : {1, 2}) {
      CAPTURE(images);
      CAPTURE(threads);
      const train::TaskSpec what =
          spec(images, train::Sgd{.rate = 0.05F, .momentum = 0.9F}, options);
      const Options f16{.threads = threads, .precision = DType::f16};
      const Trained first = trained(what, f16);
      CHECK(first.skipped > 2);
      CHECK(first.skipped < 30);
      CHECK(first.losses.back() < first.losses.front());
      memory::HostResource heap;
      const auto same = [&](auto change) {
        memory::Poison poisoned(heap);
        Options other = f16;
        other.resource = &poisoned;
        change(other);
        return trained(what, other).bits() == first.bits();
      };
      CHECK(same([](Options&) {}));
      CHECK(same([](Options& o) { o.memory = Memory::pooled; }));
      CHECK(same([](Options& o) { o.memory = Memory::direct; }));
      CHECK(same([](Options& o) { o.use_team = false; }));
      CHECK(same([](Options& o) { o.in_place = false; }));
      CHECK(same([](Options& o) { o.schedule = false; }));
      CHECK(same([](Options& o) { o.order = false; }));
      CHECK(same([](Options& o) { o.fuse_updates = false; }));
      train::TaskSpec kept = what;
      kept.minimize.keep_gradients = true;
      CHECK(trained(kept, f16).skipped == first.skipped);
    }
  }
}

TEST_CASE("f16: networks train beside f32, with every optimizer") {
  for (const bool images : {true, false}) {
    for (const train::Optimizer& optimizer :
         {train::Optimizer(train::Sgd{.rate = 0.05F, .momentum = 0.9F}),
          train::Optimizer(train::Adam{.rate = 2e-3F}),
          train::Optimizer(train::AdamW{.rate = 2e-3F})}) {
      CAPTURE(images);
      CAPTURE(train::to_string(optimizer));
      const Trained wide = trained(spec(images, optimizer, {}), {.threads = 2}, 60);
      const Trained half = trained(spec(images, optimizer, {.grad_scaler = train::GradScaler{}}),
                                   {.threads = 2, .precision = DType::f16}, 60);
      CHECK(half.losses[0] == doctest::Approx(wide.losses[0]).epsilon(1e-3));
      CHECK(half.losses.back() < 0.85F * half.losses[0]);
      CHECK(half.losses.back() == doctest::Approx(wide.losses.back()).epsilon(0.1));
    }
  }
}

}  // namespace
}  // namespace poolgrad

// chain, unet and resnet-20: names, sizes, that they learn, and that memory modes and threads
// change no bit.
#include <algorithm>

#include <doctest/doctest.h>

#include "engine/program.h"
#include "memory/adaptors.h"
#include "models/chain.h"
#include "models/resnet.h"
#include "models/unet.h"
#include "tests/engine/small_images.h"
#include "train/task.h"

namespace poolgrad {
namespace {

constexpr std::int64_t kBatch = 20, kSide = 12;

train::TaskSpec spec_of(const train::Model& model) {
  return {.model = model,
          .sample = {1, kSide, kSide},
          .batch = kBatch,
          .optimizer = train::Adam{.rate = 1e-3F}};
}

/// Bright squares, whose label is the place that they are at.
testing::SmallImages squares() {
  testing::SmallImages images(kBatch, kSide);
  for (float& value : images.x) value *= 0.5F;
  for (std::int64_t i = 0; i < kBatch; ++i) {
    const std::int64_t label = i % 3;
    images.y[static_cast<std::size_t>(i)] = label;
    for (std::int64_t row = 0; row < kSide; ++row)
      for (std::int64_t column = 0; column <= 3 * label; ++column)
        images.x[static_cast<std::size_t>((i * kSide + row) * kSide + column)] += 1.5F;
  }
  return images;
}

/// Losses of all steps, every third batch a short one, then the weights.
std::vector<float> trained(const train::Model& model, const Options& options, int steps) {
  testing::SmallImages images = squares();
  const train::Task task = train::make_task(spec_of(model));
  Program program = compile(*task.graph, task.entries, options);
  std::vector<float> result;
  program.watch_peak();
  for (int i = 0; i < steps; ++i) {
    program.run("train", images.feeds(task.samples, task.labels, i % 3 == 2 ? 13 : kBatch));
    result.push_back(program.view(task.training.loss).as<float>()[0]);
  }
  if (options.memory == Memory::planned)
    CHECK(program.measured_peak_bytes() == program.blueprint().predicted_peak_bytes());
  const auto weights = program.column("parameters").as<float>();
  result.insert(result.end(), weights.begin(), weights.end());
  return result;
}

struct Named {
  std::string name;
  train::Model model;
};

std::vector<Named> all() {
  return {{"chain", models::chain(32, 8, 10, 3)},
          {"unet", models::unet(8, 10, 3)},
          {"resnet20", models::resnet(3, 8, 10, 3)}};
}

TEST_CASE("chain, unet, resnet-20: the loss falls") {
  for (const Named& each : all()) {
    CAPTURE(each.name);
    constexpr int kSteps = 75;
    const std::vector<float> losses = trained(each.model, {}, kSteps);
    CHECK(losses[0] > 1.5F);
    CHECK(*std::min_element(losses.begin(), losses.begin() + kSteps) < 0.7F);
  }
}

TEST_CASE("chain, unet, resnet-20: memory modes and threads change no bit, freed bytes poisoned") {
  for (const Named& each : all()) {
    for (const int threads : {1, 2}) {
      CAPTURE(each.name);
      CAPTURE(threads);
      memory::HostResource heap;
      const Options options{.threads = threads};
      const std::vector<float> bits = trained(each.model, options, 3);
      const auto same = [&](auto change) {
        memory::Poison poisoned(heap);
        Options other = options;
        other.resource = &poisoned;
        change(other);
        return trained(each.model, other, 3) == bits;
      };
      CHECK(same([](Options& o) { o.use_team = false; }));
      CHECK(same([](Options& o) { o.memory = Memory::pooled; }));
      CHECK(same([](Options& o) { o.memory = Memory::direct; }));
      CHECK(same([](Options& o) { o.in_place = false; }));
      CHECK(same([](Options& o) { o.schedule = false; }));
      CHECK(same([](Options& o) { o.order = false; }));
    }
  }
}

std::vector<std::string> parameters(const train::Model& model, const Shape& sample) {
  const train::Task task = train::make_task({.model = model, .sample = sample, .batch = 2});
  std::vector<std::string> result;
  for (const Tensor& tensor : task.graph->column("parameters"))
    result.push_back(task.graph->name(tensor.id) + " " + to_string(tensor.shape()));
  return result;
}

TEST_CASE("chain: equal convolutions, by index") {
  const std::vector<std::string> names = parameters(models::chain(), {1, 28, 28});
  REQUIRE(names.size() == 66);
  CHECK(names[0] == "0.weight [16, 1, 3, 3]");
  CHECK(names[2] == "2.weight [16, 16, 3, 3]");
  CHECK(names[62] == "62.weight [16, 16, 3, 3]");
  CHECK(names[64] == "66.weight [10, 16]");
  CHECK_THROWS_WITH_AS((void)models::chain(0),
                       "chain: 0 convolutions of width 16 and 10 classes; each must be at least 1",
                       ArgumentError);
}

TEST_CASE("unet: stages by name, with what comes across beside what comes up") {
  const std::vector<std::string> names = parameters(models::unet(), {3, 28, 28});
  REQUIRE(names.size() == 22);
  CHECK(names[0] == "down1.0.weight [16, 3, 3, 3]");
  CHECK(names[2] == "down1.2.weight [16, 16, 3, 3]");
  CHECK(names[4] == "down2.0.weight [32, 16, 3, 3]");
  CHECK(names[8] == "middle.0.weight [64, 32, 3, 3]");
  CHECK(names[12] == "up2.0.weight [32, 96, 3, 3]");
  CHECK(names[16] == "up1.0.weight [16, 48, 3, 3]");
  CHECK(names[20] == "fc.weight [10, 16]");
  CHECK_THROWS_WITH_AS((void)models::unet(0),
                       "unet: width 0 and 10 classes; each must be at least 1", ArgumentError);
  CHECK_THROWS_WITH_AS((void)parameters(models::unet(), {3, 28, 30}),
                       "unet: x [2, 3, 28, 30] is halved twice and doubled again; make height and "
                       "width multiples of 4",
                       ShapeError);
}

}  // namespace
}  // namespace poolgrad

// resnet: names and shapes are torchvision's, and training gives the same bits whatever is
// switched.
#include "models/resnet.h"

#include <doctest/doctest.h>

#include "engine/program.h"
#include "memory/adaptors.h"
#include "tests/engine/small_images.h"
#include "train/task.h"

namespace poolgrad {
namespace {

using testing::gap, testing::SmallImages;

constexpr std::int64_t kBatch = 40, kSide = 16;  // large enough that convolutions go in chunks

train::TaskSpec spec() {
  return {.model = models::resnet(/*blocks=*/1, /*width=*/16, /*classes=*/10, /*seed=*/3),
          .sample = {1, kSide, kSide},
          .batch = kBatch,
          .optimizer = train::Sgd{.rate = 0.05F, .momentum = 0.9F}};
}

/// Losses of all steps, every third batch a short one; then weights, running statistics and what
/// "evaluate" makes of them.
std::vector<float> trained(const Options& options, int steps = 6) {
  SmallImages images(kBatch, kSide);
  const train::Task task = train::make_task(spec());
  Program program = compile(*task.graph, task.entries, options);
  std::vector<float> result;
  for (int i = 0; i < steps; ++i) {
    program.run("train", images.feeds(task.samples, task.labels, i % 3 == 2 ? 23 : kBatch));
    result.push_back(program.view(task.training.loss).as<float>()[0]);
  }
  for (const char* column : {"parameters", "statistics"}) {
    const auto values = program.column(column).as<float>();
    result.insert(result.end(), values.begin(), values.end());
  }
  program.run("evaluate", images.feeds(task.samples, task.labels, kBatch));
  result.push_back(program.view(task.test_loss).as<float>()[0]);
  return result;
}

TEST_CASE("resnet: names and shapes are those of torchvision's modules") {
  const train::Task task =
      train::make_task({.model = models::resnet(2, 16), .sample = {1, 28, 28}, .batch = 2});
  std::vector<std::string> names;
  std::int64_t count = 0;
  for (const Tensor& parameter : task.graph->column("parameters")) {
    names.push_back(task.graph->name(parameter.id) + " " + to_string(parameter.shape()));
    count += parameter.shape().count();
  }
  REQUIRE(names.size() == 47);
  CHECK(names[0] == "conv1.weight [16, 1, 3, 3]");
  CHECK(names[1] == "bn1.weight [16]");
  CHECK(names[2] == "bn1.bias [16]");
  CHECK(names[3] == "layer1.0.conv1.weight [16, 16, 3, 3]");
  CHECK(names[15] == "layer2.0.conv1.weight [32, 16, 3, 3]");
  CHECK(names[21] == "layer2.0.downsample.0.weight [32, 16, 1, 1]");
  CHECK(names[22] == "layer2.0.downsample.1.weight [32]");
  CHECK(names[44] == "layer3.1.bn2.bias [64]");
  CHECK(names[45] == "fc.weight [10, 64]");
  CHECK(names[46] == "fc.bias [10]");
  CHECK(count == 174970);
  CHECK(task.graph->column("statistics").size() == 45);
}

TEST_CASE("resnet: the loss falls, and use agrees with training once statistics have settled") {
  const std::vector<float> losses = trained({}, 60);
  CHECK(losses[0] > 2.2F);
  CHECK(losses[57] < 0.1F);
  CHECK(losses.back() < 0.2F);
}

TEST_CASE("resnet: memory modes, passes and who runs it change no bit, freed bytes poisoned") {
  for (const int threads : {1, 2}) {
    for (const int chunks : {1, 4}) {
      CAPTURE(threads);
      CAPTURE(chunks);
      memory::HostResource heap;
      memory::Poison poisoned(heap);
      const Options options{.threads = threads, .chunks = chunks};
      const std::vector<float> bits = trained(options);
      const auto same = [&](auto change) {
        Options other = options;
        other.resource = &poisoned;
        change(other);
        return trained(other) == bits;
      };
      CHECK(same([](Options& o) { o.use_team = false; }));
      CHECK(same([](Options& o) { o.memory = Memory::pooled; }));
      CHECK(same([](Options& o) { o.memory = Memory::direct; }));
      CHECK(same([](Options& o) { o.in_place = false; }));
      CHECK(same([](Options& o) { o.recompute = false; }));
      CHECK(same([](Options& o) { o.schedule = false; }));
      CHECK(same([](Options& o) { o.order = false; }));
      // Reorders in between decide with what else a sum is cut into chunks, and so its rounding.
      if (chunks == 1) CHECK(same([](Options& o) { o.layout = false; }));
    }
  }
}

TEST_CASE("resnet: members and chunks change the rounding of sums and nothing else") {
  const std::vector<float> whole = trained({.threads = 1, .chunks = 1}, 3);
  struct Split {
    int threads, chunks;
  };
  for (const Split split : {Split{1, 4}, {2, 1}, {2, 4}, {3, 2}, {4, 4}}) {
    CAPTURE(split.threads);
    CAPTURE(split.chunks);
    CHECK(gap(trained({.threads = split.threads, .chunks = split.chunks}, 3), whole) < 1e-4);
  }
  CHECK(gap(trained({.threads = 2, .chunks = 4, .fuse = false}, 3), whole) < 1e-4);
}

TEST_CASE("resnet: what lies between convolutions is not kept for the backward pass") {
  const train::Task task =
      train::make_task({.model = models::resnet(2, 16), .sample = {1, 28, 28}, .batch = 128});
  const auto scratch = [&](bool recompute) {
    const Options options{.threads = 2, .recompute = recompute};
    return draft(*task.graph, {task.entries[0]}, options).scratch_bytes;
  };
  CHECK(scratch(true) < scratch(false) * 4 / 5);
}

TEST_CASE("resnet: a short batch trains as in a program of its size") {
  SmallImages images(kBatch, kSide);
  const auto after_one = [&](std::int64_t batch) {
    train::TaskSpec small = spec();
    small.batch = batch;
    const train::Task task = train::make_task(small);
    Program program = compile(*task.graph, task.entries, {.threads = 1, .chunks = 1});
    std::vector<float> result;
    for (int i = 0; i < 3; ++i) {
      program.run("train", images.feeds(task.samples, task.labels, 9));
      result.push_back(program.view(task.training.loss).as<float>()[0]);
    }
    const auto statistics = program.column("statistics").as<float>();
    result.insert(result.end(), statistics.begin(), statistics.end());
    return result;
  };
  CHECK(gap(after_one(kBatch), after_one(9)) < 1e-4);
}

TEST_CASE("resnet: settings below 1 are named") {
  CHECK_THROWS_WITH_AS((void)models::resnet(0, 16),
                       "resnet: 0 blocks of width 16 and 10 classes; each must be at least 1",
                       ArgumentError);
}

}  // namespace
}  // namespace poolgrad

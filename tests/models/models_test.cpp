// mlp and cnn: names, shapes and sizes of the equal torch.nn.Sequential.
#include <doctest/doctest.h>

#include "engine/program.h"
#include "models/cnn.h"
#include "models/mlp.h"
#include "train/task.h"

namespace poolgrad {
namespace {

std::vector<std::string> parameters(const train::Model& model, const Shape& sample) {
  const train::Task task = train::make_task({.model = model, .sample = sample, .batch = 2});
  CHECK(task.logits.shape() == Shape{2, 10});
  std::vector<std::string> result;
  for (const Tensor& tensor : task.graph->column("parameters"))
    result.push_back(task.graph->name(tensor.id) + " " + to_string(tensor.shape()));
  return result;
}

using Widths = std::vector<std::int64_t>;

TEST_CASE("mlp: one linear layer per width and one more") {
  CHECK(parameters(models::mlp(784, Widths{128}, 10), {1, 28, 28}) ==
        std::vector<std::string>{"0.weight [128, 784]", "0.bias [128]", "2.weight [10, 128]",
                                 "2.bias [10]"});
  CHECK(parameters(models::mlp(6, Widths{}, 10), {6}) ==
        std::vector<std::string>{"0.weight [10, 6]", "0.bias [10]"});
  CHECK(parameters(models::mlp(784, Widths{256, 128}, 10), {1, 28, 28}).size() == 6);
  CHECK_THROWS_WITH_AS((void)models::mlp(6, Widths{8, 0}, 10),
                       "mlp: a hidden layer of 0; take 1 or more", ArgumentError);
}

TEST_CASE("cnn: the layers of the equal torch.nn.Sequential, by index") {
  CHECK(parameters(models::cnn(), {1, 28, 28}) ==
        std::vector<std::string>{"0.weight [32, 1, 3, 3]", "0.bias [32]", "3.weight [64, 32, 3, 3]",
                                 "3.bias [64]", "7.weight [128, 3136]", "7.bias [128]",
                                 "9.weight [10, 128]", "9.bias [10]"});
  CHECK_THROWS_AS((void)models::cnn({.channels = 1, .height = 3, .width = 28}), ArgumentError);
  CHECK(parameters(models::cnn({.channels = 3, .height = 33, .width = 30}), {3, 33, 30})[4] ==
        "7.weight [128, 3584]");
}

TEST_CASE("plans of mlp and cnn equal the lower bound with one member") {
  for (const std::int64_t batch : {32, 128}) {
    for (const bool cnn : {false, true}) {
      CAPTURE(batch);
      CAPTURE(cnn);
      const train::Task task =
          train::make_task({.model = cnn ? train::Model(models::cnn())
                                         : train::Model(models::mlp(784, Widths{128}, 10)),
                            .sample = {1, 28, 28},
                            .batch = batch});
      const Blueprint blueprint = draft(*task.graph, task.entries);
      CHECK(blueprint.arena_bytes() == blueprint.lower_bound_bytes());
      for (const Entry& entry : blueprint.entries)
        CHECK(memory::check(entry.plan, entry.requests) == "");
    }
  }
}

TEST_CASE("order: another order of the same nodes takes less, for the cnn with Adam") {
  const train::Task task = train::make_task(
      {.model = models::cnn(), .sample = {1, 28, 28}, .batch = 128, .optimizer = train::Adam{}});
  const Blueprint searched = draft(*task.graph, task.entries),
                  usual = draft(*task.graph, task.entries, {.order = false});
  CHECK(searched.entry("train").steps.size() == usual.entry("train").steps.size());
  CHECK(searched.arena_bytes() < usual.arena_bytes());
}

}  // namespace
}  // namespace poolgrad

// Tasks: entries, limits, and models that answer something else.
#include "train/task.h"

#include <doctest/doctest.h>

#include "engine/ops.h"

namespace poolgrad::train {
namespace {

Tensor model(Graph& graph, Tensor x, bool) {
  std::vector<Tensor> p = graph.column("parameters");
  if (p.empty()) {
    const Graph::Layer layer(graph, "0");
    p = {graph.parameter({32, 100}, Init::kaiming_uniform(100, 1), "weight"),
         graph.parameter({10, 32}, Init::kaiming_uniform(32, 1), "out")};
  }
  return linear(relu(linear(flatten(x), p[0])), p[1]);
}

TaskSpec spec(std::int64_t batch) {
  return {.model = model, .sample = {1, 10, 10}, .batch = batch, .optimizer = Sgd{}};
}

TEST_CASE("task: three entries over one set of parameters") {
  const Task task = make_task(spec(8));
  CHECK(task.entries.size() == 3);
  CHECK(task.samples.shape() == Shape{8, 1, 10, 10});
  CHECK(task.logits.shape() == Shape{8, 10});
  CHECK(task.graph->column("parameters").size() == 2);
  const Blueprint blueprint = draft(*task.graph, task.entries);
  for (const char* entry : {"train", "evaluate", "predict"})
    CHECK_NOTHROW((void)blueprint.entry(entry));
  CHECK(blueprint.entry("predict").steps.size() < blueprint.entry("train").steps.size());
}

TEST_CASE("task: a plan over the limit says how much, of what, and what would fit") {
  const Task task = make_task(spec(256));
  const std::size_t needed = draft(*task.graph, task.entries).predicted_peak_bytes();
  Options options;
  options.memory_limit_bytes = needed;
  CHECK(draft_task(spec(256), task, options).predicted_peak_bytes() == needed);

  options.memory_limit_bytes = needed - 1;
  try {
    (void)draft_task(spec(256), task, options);
    FAIL("no error");
  } catch (const MemoryError& error) {
    const std::string what = error.what();
    CAPTURE(what);
    CHECK(what.starts_with(text("memory: batch 256 needs ")));
    CHECK(what.find(text("(", needed, " bytes; most of it ")) != std::string::npos);
    CHECK(what.find(text("(", needed - 1, " bytes)")) != std::string::npos);
    CHECK(what.find("; the largest batch that fits is 2") != std::string::npos);
  }
  options.memory_limit_bytes = 1000;
  CHECK_THROWS_WITH_AS((void)draft_task(spec(256), task, options),
                       doctest::Contains("not even batch 1 fits"), MemoryError);
}

TEST_CASE("task: what every member reads whole, each gathers, and meets nobody for it") {
  // Features, whose weight is worth keeping with the members, read the whole batch.
  const auto wide = [](Graph& graph, Tensor x, bool) {
    std::vector<Tensor> p = graph.column("parameters");
    if (p.empty())
      p = {graph.parameter({128, 100}, Init::kaiming_uniform(100, 1), "weight"),
           graph.parameter({10, 128}, Init::kaiming_uniform(128, 1), "out")};
    return linear(relu(linear(flatten(x), p[0])), p[1]);
  };
  TaskSpec both = spec(128);  // as many rows as features, which are no rows
  both.model = wide;
  const Task ready = make_task(both);
  const Blueprint bare = draft(*ready.graph, ready.entries, {.threads = 2});
  const Columns columns{{{300, 100}, DType::u8}, {{300}, DType::u8}};
  both.tables = Tables{columns, columns};
  const Task files = make_task(both);
  const Blueprint gathering = draft(*files.graph, files.entries, {.threads = 2});
  const auto phases = [](const Blueprint& blueprint) {
    return blueprint.entry("train").edges.size();
  };
  CHECK(phases(bare) == 2);
  CHECK(phases(gathering) == 2);
}

TEST_CASE("task: a model that answers no [batch, classes] is named with what it made") {
  TaskSpec wrong = spec(4);
  wrong.model = [](Graph&, Tensor x, bool) { return x; };
  CHECK_THROWS_WITH_AS((void)make_task(wrong),
                       "task: the model makes [4, 1, 10, 10] of samples [4, 1, 10, 10]; it must "
                       "answer [4, classes]",
                       ShapeError);
  wrong.model = [](Graph&, Tensor, bool) { return Tensor{}; };
  CHECK_THROWS_AS((void)make_task(wrong), ShapeError);
  CHECK_THROWS_WITH_AS((void)make_task(spec(0)),
                       "task: batch 0 is below 1; take at least one sample", ArgumentError);
}

}  // namespace
}  // namespace poolgrad::train

// What-if: answers against drafts of every batch one by one.
#include "train/what_if.h"

#include <doctest/doctest.h>

#include "engine/ops.h"
#include "engine/program.h"

namespace poolgrad::train {
namespace {

Tensor linear_model(Graph& graph, Tensor x, bool) {
  std::vector<Tensor> p = graph.column("parameters");
  if (p.empty()) {
    const Graph::Layer layer(graph, "0");
    p = {graph.parameter({32, 256}, Init::kaiming_uniform(256, 1), "weight"),
         graph.parameter({10, 32}, Init::kaiming_uniform(32, 1), "out")};
  }
  return linear(relu(linear(flatten(x), p[0])), p[1]);
}

/// Wide enough that a few dozen images are taken in chunks, and more of them in more chunks.
Tensor convolution_model(Graph& graph, Tensor x, bool) {
  std::vector<Tensor> p = graph.column("parameters");
  if (p.empty()) {
    const Graph::Layer layer(graph, "0");
    p = {graph.parameter({32, 1, 3, 3}, Init::kaiming_uniform(9, 1), "weight"),
         graph.parameter({10, 2048}, Init::kaiming_uniform(2048, 1), "out")};
  }
  const Tensor y = conv2d(x, p[0], {}, {.padding = {1, 1}});
  return linear(flatten(max_pool2d(relu(y))), p[1]);
}

TaskSpec spec(Model model, std::int64_t batch = 64) {
  return {.model = std::move(model), .sample = {1, 16, 16}, .batch = batch, .optimizer = Sgd{}};
}

std::size_t peak(const TaskSpec& of, const Options& options, std::int64_t batch) {
  return needs(of, options, batch).peak_bytes;
}

TEST_CASE("what if: the largest batch is the one that drafting every batch finds") {
  constexpr std::int64_t kMost = 160;
  for (const Model& model : {Model(linear_model), Model(convolution_model)}) {
    for (const int threads : {1, 2}) {
      for (const Memory memory : {Memory::planned, Memory::direct}) {
        CAPTURE(threads);
        const Options options{.memory = memory, .threads = threads};
        std::vector<std::size_t> peaks{0};
        for (std::int64_t batch = 1; batch <= kMost; ++batch)
          peaks.push_back(peak(spec(model), options, batch));
        for (const std::size_t batch :
             {std::size_t{1}, std::size_t{17}, std::size_t{40}, std::size_t{100}}) {
          for (const std::size_t limit : {peaks[batch], peaks[batch] - 1}) {
            CAPTURE(limit);
            std::int64_t largest = 0;
            for (std::int64_t b = 1; b <= kMost; ++b)
              if (peaks[static_cast<std::size_t>(b)] <= limit) largest = b;
            const LargestBatch found = largest_batch(spec(model), options, limit);
            CHECK(found.at.batch == largest);
            CHECK(found.checked > largest);
            CHECK(found.at.peak_bytes ==
                  peaks[static_cast<std::size_t>(std::max<std::int64_t>(largest, 1))]);
          }
        }
      }
    }
  }
}

TEST_CASE("what if: a larger batch may take less, and is found behind one that does not fit") {
  std::size_t most = 0;
  std::int64_t smaller = 0;
  for (std::int64_t batch = 1; batch <= 160 && smaller == 0; ++batch) {
    const std::size_t bytes = peak(spec(convolution_model), {}, batch);
    if (bytes < most) smaller = batch;
    most = std::max(most, bytes);
  }
  REQUIRE(smaller > 0);  // or the model must be made so that its chunks change
  CHECK(largest_batch(spec(convolution_model), {}, peak(spec(convolution_model), {}, smaller))
            .at.batch >= smaller);
}

TEST_CASE("what if: a sweep has the numbers of a draft") {
  const std::vector<std::int64_t> batches{1, 5, 64};
  const std::vector<Needs> rows = sweep(spec(linear_model), {}, batches);
  REQUIRE(rows.size() == 3);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Task task = make_task(spec(linear_model, batches[i]));
    const Blueprint blueprint = draft(*task.graph, task.entries);
    CHECK(rows[i].batch == batches[i]);
    CHECK(rows[i].peak_bytes == blueprint.arena_bytes());
    CHECK(rows[i].lower_bound_bytes == blueprint.lower_bound_bytes());
    CHECK(rows[i].sum_bytes == blueprint.sum_bytes());
    CHECK(rows[i].persistent_bytes == blueprint.persistent_bytes);
  }
}

TEST_CASE("what if: settings come smallest first, each with what it takes") {
  const std::vector<Setting> settings = settings_by_peak(spec(convolution_model), {.threads = 2});
  REQUIRE(settings.size() == 7 + 6);  // 1 to 64 chunks of one member, 1 to 32 of two
  for (std::size_t i = 0; i < settings.size(); ++i) {
    const Setting& setting = settings[i];
    const Options options{.threads = setting.threads, .chunks = setting.chunks};
    CHECK(setting.needs.peak_bytes == peak(spec(convolution_model), options, 64));
    if (i > 0) CHECK(setting.needs.peak_bytes >= settings[i - 1].needs.peak_bytes);
  }
}

TEST_CASE("what if: the smallest budget is feasible, and one byte less is not") {
  Options options{.chunks = 1};
  options.budget_bytes = smallest_budget(spec(convolution_model), options);
  CHECK(peak(spec(convolution_model), options, 64) <= options.budget_bytes);
  --options.budget_bytes;
  CHECK_THROWS_AS((void)peak(spec(convolution_model), options, 64), BudgetError);
}

TEST_CASE("what if: a budget has no largest batch, and one above the limit is said to be") {
  const TaskSpec of = spec(convolution_model);
  const std::size_t half = peak(of, {}, 64) / 2;
  CHECK_THROWS_WITH_AS((void)largest_batch(of, {.budget_bytes = 64}, half),
                       "largest_batch: options have a budget of 64 bytes, within which a plan no "
                       "longer grows with the batch; ask without one",
                       ArgumentError);
  const Options above{.memory_limit_bytes = half / 2, .budget_bytes = 2 * half};
  try {
    (void)draft_task(of, make_task(of), above);
    FAIL("drafted beyond the limit");
  } catch (const MemoryError& error) {
    const std::string end =
        text("; the budget of ", above.budget_bytes, " bytes is above it; lower it");
    CHECK_MESSAGE(std::string(error.what()).ends_with(end), error.what());
  }
}

TEST_CASE("what if: a draft that was not placed has the bounds and cannot run") {
  const Task task = make_task(spec(linear_model));
  const Blueprint placed = draft(*task.graph, task.entries);
  Blueprint bounds = draft(*task.graph, task.entries, {.place = false});
  CHECK(bounds.lower_bound_bytes() == placed.lower_bound_bytes());
  CHECK(bounds.sum_bytes() == placed.sum_bytes());
  CHECK(bounds.entry("train").plan.optimal());
  CHECK_THROWS_AS((void)Program(std::move(bounds)), ArgumentError);
}

}  // namespace
}  // namespace poolgrad::train

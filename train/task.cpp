// Puts a task together, and says why one is too large.
#include "train/task.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "engine/cuda/launcher.h"
#include "engine/launcher.h"
#include "engine/ops.h"
#include "engine/peak.h"
#include "engine/program.h"
#include "memory/system.h"
#include "train/what_if.h"

namespace poolgrad::train {
namespace {

/// Calls the model and checks what it answers.
Tensor logits_of(const Model& model, Graph& graph, Tensor samples, bool training) {
  const Tensor logits = model(graph, samples, training);
  if (!logits) throw ShapeError("task: the model answered an empty tensor; return its logits");
  const Shape &given = samples.shape(), &made = logits.shape();
  if (made.rank() != 2 || made[0] != given[0])
    throw ShapeError(text("task: the model makes ", made, " of samples ", given,
                          "; it must answer [", given[0], ", classes]"));
  return logits;
}

/// [count, ...sample].
Shape many(std::int64_t count, const Shape& sample) {
  if (sample.rank() + 1 > Shape::kMaxRank)
    throw ShapeError(text("task: samples ", sample, " have too many axes; ", Shape::kMaxRank - 1,
                          " are the most"));
  std::vector<std::int64_t> extents{count};
  extents.insert(extents.end(), sample.extents().begin(), sample.extents().end());
  return Shape{std::span<const std::int64_t>(extents)};
}

Lent lent(Graph& graph, const Columns& columns, const Shape& sample, const std::string& name) {
  const Spec &samples = columns.samples, &labels = columns.labels;
  const std::int64_t count = samples.shape[0];
  const Shape shape = many(count, sample);
  if (samples.shape.count() != shape.count())
    throw ShapeError(text("task: ", name, " samples are ", samples.shape, " but the model takes ",
                          shape, "; make the task with the samples' shape"));
  return {graph.lent({shape, samples.dtype}, name + ".samples"),
          graph.lent({{count}, labels.dtype}, name + ".labels")};
}

/// A batch as the model and the loss take it: pixels from 0 to 1, labels as i64.
using Batch = std::pair<Tensor, Tensor>;  // samples, labels
Batch gathered(const Lent& from, Tensor indices) {
  return {gather(from.samples, indices, as_pixels(from.samples.spec().dtype)),
          gather(from.labels, indices, {DType::i64})};
}

Batch slots(Graph& graph, const TaskSpec& spec, const std::string& suffix = {}) {
  return {graph.input({many(spec.batch, spec.sample)}, "samples" + suffix),
          graph.input({{spec.batch}, DType::i64}, "labels" + suffix)};
}

}  // namespace

Gather as_pixels(DType from) { return {DType::f32, from == DType::u8 ? 255.0F : 1.0F}; }

Tables tables_of(const Split& data) {
  const auto columns = [](const Dataset& part) -> Columns {
    return {{part.samples.shape, part.samples.dtype}, {part.labels.shape, part.labels.dtype}};
  };
  return {columns(data.train), columns(data.test)};
}

Task make_task(const TaskSpec& spec) {
  if (spec.batch < 1)
    throw ArgumentError(text("task: batch ", spec.batch, " is below 1; take at least one sample"));
  Task task{.graph = std::make_shared<Graph>(), .entries = {}};
  Graph& graph = *task.graph;
  Batch batch, test;
  if (spec.read_ahead || !spec.tables) batch = test = slots(graph, spec);
  if (spec.read_ahead) std::tie(task.next_samples, task.next_labels) = slots(graph, spec, ".next");
  if (spec.tables) {
    task.indices = graph.input({{spec.batch}, DType::i32}, "indices");
    task.train = lent(graph, spec.tables->train, spec.sample, "train");
    task.test = lent(graph, spec.tables->test, spec.sample, "test");
    if (!spec.read_ahead) batch = gathered(task.train, task.indices);
    test = gathered(task.test, task.indices);
  }
  std::tie(task.samples, task.labels) = batch;

  const Tensor learning = logits_of(spec.model, graph, task.samples, /*training=*/true);
  const Tensor loss = softmax_cross_entropy(learning, task.labels);
  task.correct = count_correct(learning, task.labels);
  task.training = minimize(loss, spec.optimizer, spec.minimize);

  const auto& [samples, labels] = test;
  task.logits = logits_of(spec.model, graph, samples, /*training=*/false);
  task.test_loss = softmax_cross_entropy(task.logits, labels);
  task.test_correct = count_correct(task.logits, labels);
  task.entries = {task.training.entry("train", {task.correct}),
                  {"evaluate", {task.test_loss, task.test_correct}}};
  if (!spec.tables) task.entries.push_back({"predict", {task.logits}});
  return task;
}

std::string largest_parts(const Blueprint& blueprint) {
  struct Part {
    std::string what;
    std::size_t bytes;
  };
  std::vector<Part> parts;
  for (const LayerBytes& layer : bytes_at_peak(blueprint, largest_entry(blueprint).name)) {
    for (std::size_t role = 0; role < kRoles; ++role)
      parts.push_back({text(to_string(static_cast<Role>(role)), "s",
                            layer.layer.empty() ? "" : " of layer ", layer.layer),
                       layer.by[role]});
  }
  std::ranges::stable_sort(parts, std::ranges::greater{}, &Part::bytes);
  constexpr std::size_t kMost = 3;
  std::string result;
  for (std::size_t i = 0; i < std::min(kMost, parts.size()) && parts[i].bytes > 0; ++i)
    result += text(i == 0 ? "" : ", ", parts[i].what, " ", human_bytes(parts[i].bytes));
  return result;
}

std::size_t available_bytes(poolgrad::Options& options) {
  if (options.launcher == nullptr && options.share != nullptr)
    options.launcher = options.share->blueprint().options.launcher;
  if (options.launcher == nullptr && options.device.kind == Device::Kind::cuda)
    options.launcher = cuda::launcher(options.device);
  if (options.launcher == nullptr) return memory::available_bytes();
  return settled(
      *options.launcher, [] { return "device"; }, [&] { return options.launcher->free_bytes(); });
}

namespace {

/// Of a peak above the limit.
std::string remedy(const TaskSpec& spec, const poolgrad::Options& options) {
  const std::size_t limit = options.memory_limit_bytes;
  if (options.budget_bytes > 0)
    return text("the budget of ", options.budget_bytes, " bytes is above it; lower it");
  const std::int64_t batch = largest_batch(spec, options, limit).at.batch;
  return batch == 0 ? "not even batch 1 fits; take a smaller model or raise the limit"
                    : text("the largest batch that fits is ", batch);
}

}  // namespace

Blueprint draft_task(const TaskSpec& spec, const Task& task, const poolgrad::Options& options) {
  poolgrad::Options unlimited = options;
  unlimited.memory_limit_bytes = 0;
  Blueprint blueprint = draft(*task.graph, task.entries, unlimited);
  blueprint.options.memory_limit_bytes = options.memory_limit_bytes;
  const std::size_t needed = blueprint.predicted_peak_bytes();
  const std::size_t limit = options.memory_limit_bytes;
  if (limit == 0 || needed <= limit) return blueprint;

  throw MemoryError(text("memory: batch ", spec.batch, " needs ", human_bytes(needed), " (", needed,
                         " bytes; most of it ", largest_parts(blueprint), ") but the limit is ",
                         human_bytes(limit), " (", limit, " bytes); ", remedy(spec, options)));
}

}  // namespace poolgrad::train

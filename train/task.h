// Task: a model, a loss and an optimizer put together into one graph, with the entries that
// training needs. It has no bytes: draft() says what it would take, compile() takes it.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "engine/ops.h"
#include "train/dataset.h"
#include "train/minimize.h"

namespace poolgrad::train {

/// Appends a model's nodes: x [batch, ...] -> logits [batch, classes]. Called twice on one graph,
/// once for training and once for use; the second call finds the first one's parameters by their
/// names.
using Model = std::function<Tensor(Graph& graph, Tensor x, bool training)>;

/// Data sets as a plan sees them: [n, ...] and [n], no bytes.
struct Columns {
  Spec samples, labels;
  bool operator==(const Columns&) const = default;
};
struct Tables {
  Columns train, test;
};
[[nodiscard]] Tables tables_of(const Split& data);

/// How samples of that type become what models take: bytes become 0 to 1.
[[nodiscard]] Gather as_pixels(DType from);

struct TaskSpec {
  Model model;
  Shape sample;  // of one sample: [channels, height, width] or [features]
  std::int64_t batch = 64;
  Optimizer optimizer = Adam{};
  MinimizeOptions minimize{};
  /// Absent: each step is fed its batch. Else it gathers the batch itself, by row numbers, from
  /// tables that are lent to the program: what fit() needs.
  std::optional<Tables> tables{};
  /// "train" is fed its batch, and there is a second slot, so that the next one can be gathered on
  /// a thread of its own while a step runs: fit() does so. The bits are the same. Pays where a core
  /// is spare.
  bool read_ahead = false;
};

/// Lent tables: the columns of a data set where they lie.
struct Lent {
  Tensor samples{}, labels{};
};

/// Entries: "train" (loss, correct), "evaluate" (loss, correct) and, without tables, "predict"
/// (logits).
struct Task {
  std::shared_ptr<Graph> graph;
  std::vector<EntryPoint> entries;
  Tensor samples{};  // [batch, ...] f32: a slot, or with tables what "train" gathers
  Tensor labels{};   // [batch] i64, likewise
  Tensor next_samples{}, next_labels{};  // to read ahead: the second slots, which no entry reads
  Tensor indices{};                      // with tables: slot [batch] i32, rows of the data set
  Lent train{}, test{};                  // with tables
  Training training{};
  Tensor correct{};  // [] i64: how many of the rows that count were right, before the update
  Tensor test_loss{}, test_correct{};  // of "evaluate"
  Tensor logits{};                     // [batch, classes], of "predict" and "evaluate"
};

/// The loss is the mean softmax cross-entropy. Throws ShapeError when the model does not fit the
/// samples or answers no [batch, classes], ArgumentError for a batch below 1 and for bad optimizer
/// settings.
[[nodiscard]] Task make_task(const TaskSpec& spec);

/// What takes most at the fullest moment, in one line: "activations of layer 3 12.2 MiB, ...".
[[nodiscard]] std::string largest_parts(const Blueprint& blueprint);

/// What a training may take where nobody says: what the machine has available, on a device what it
/// has free. Puts the device's launcher into `options`, which it makes where there is none. Throws
/// DeviceError where the device cannot be used.
[[nodiscard]] std::size_t available_bytes(poolgrad::Options& options);

/// draft() of the task with a better error: a peak above options.memory_limit_bytes is a
/// MemoryError that names what takes most and the largest batch that would fit (what_if.h), or says
/// that not even 1 does, or that a budget is above the limit.
[[nodiscard]] Blueprint draft_task(const TaskSpec& spec, const Task& task,
                                   const poolgrad::Options& options);

}  // namespace poolgrad::train

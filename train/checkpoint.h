// Checkpoints: all that decides how training goes on, as named arrays and text. Their file is
// safetensors (interop/safetensors.h), which is not known here.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/program.h"
#include "train/task.h"

namespace poolgrad::train {

/// How far fit() has come through its data, and in which order: with what a program keeps, all that
/// the next step depends on.
struct Position {
  std::int64_t epochs = 0;  // whole ones
  std::int64_t steps = 0;   // done in the one after them
  /// Over so many samples of those steps, for the epoch's report: all of them after fit(), but
  /// those of skipped steps whose loss was not finite; none after a loop of one's own, which keeps
  /// no such sums.
  std::int64_t measured = 0;
  double loss_sum = 0.0;
  std::int64_t correct = 0;
  /// The order of the samples follows from these; all 0: from the beginning, in any order.
  std::uint64_t seed = 0;
  std::int64_t samples = 0, batch = 0;
  bool operator==(const Position&) const = default;
};

/// Throws ArgumentError, which begins with `name`, for a position that no training of so many
/// samples in such batches is ever at, and for one in another order.
void check(const Position& at, const Position& order, std::string_view name);

/// Parameters and running statistics under their own names, as a state_dict has them; the rest,
/// moments, step counter, learning rate, loss scale and whatever else the task keeps, behind
/// "optimizer.". Text says the format's version, the settings of optimizer, loss scale and
/// clipping, the position and what rounded the sums.
struct Checkpoint {
  std::vector<NamedArray> arrays;
  std::map<std::string, std::string> about;
};

/// What decides how a program rounds its sums, as the text of its checkpoints has it: kernels,
/// threads, and what a table of times chose (Tuning::used()) or "no".
[[nodiscard]] std::map<std::string, std::string> rounding(const poolgrad::Options& options);

/// Of the program as its last step left it. On the CPU the arrays are its own bytes. `at` is null
/// where the caller has an order of its own.
[[nodiscard]] Checkpoint checkpoint(const Task& task, const Program& program,
                                    const Position* at = nullptr);

/// What the text of a checkpoint says of the position; nothing where it says nothing. Throws
/// FileError, which begins with `name`, for text that is no checkpoint's.
[[nodiscard]] std::optional<Position> position_in(const Checkpoint& from, std::string_view name);

/// Throws unless `task` can go on from it: FileError for what is no checkpoint, ArgumentError for
/// another optimizer, loss scale or clipping, other names, shapes or dtypes. Looks at no values:
/// arrays need no data. Without any text, as a dict of arrays has none, only arrays count. `name`
/// begins the message.
void check(const Task& task, const Checkpoint& from, std::string_view name);
/// The same for parameters and statistics alone; what else is behind "optimizer." does not matter.
void check_weights(const Task& task, std::span<const NamedArray> arrays, std::string_view name);

/// Copies in what checkpoint() gave, after check() and before anything is changed; also throws
/// FileError for counters and settings that no training has.
void restore(const Task& task, Program& program, const Checkpoint& from, std::string_view name);
/// The same for parameters and statistics alone. Moments and counters stay.
void restore_weights(const Task& task, Program& program, std::span<const NamedArray> arrays,
                     std::string_view name);

}  // namespace poolgrad::train

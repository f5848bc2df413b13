// fit(): the one training loop. The command and Python both call it; what they print is theirs.
#pragma once

#include <functional>
#include <optional>

#include "engine/profile.h"
#include "memory/allocation_count.h"
#include "train/checkpoint.h"
#include "train/dataset.h"
#include "train/task.h"

namespace poolgrad::train {

struct FitOptions {
  int epochs = 5;          // in all, with those before `from`
  std::uint64_t seed = 0;  // of the order of the samples
  int profile_steps = 0;   // after training: so many steps by the clock, which change nothing
  /// Where an earlier fit() ended, of a program that is as it was then: goes on with the next step.
  Position from{};
};

struct StepReport {
  int epoch = 1;                   // from 1
  std::int64_t step = 1, of = 1;   // in this epoch
  double loss = 0.0;               // mean over the samples of this epoch so far
  double accuracy = 0.0;           // likewise, before each update
  double images_per_second = 0.0;  // of all steps so far, reports not counted
};

/// Where a loss scale has come to.
struct Scaling {
  float scale = 1.0F;        // after the last step
  std::int64_t skipped = 0;  // steps that changed nothing, in the whole training so far
};

struct EpochReport {
  int epoch = 1;
  /// Means over the epoch, before each update; of one that began elsewhere over what fit() saw of
  /// it (Position::measured), NaN where that is nothing.
  double train_loss = 0.0, train_accuracy = 0.0;
  double test_loss = 0.0, test_accuracy = 0.0;  // after it
  double seconds = 0.0;                         // training and test, of this fit()
  Position at{};                                // to go on from here
  std::optional<Scaling> scaling{};             // with a grad scaler
};

/// All may be empty. They are called between steps and may take their time: neither their
/// allocations nor their seconds count as the loop's.
struct FitCallbacks {
  std::function<void(const StepReport&)> on_step{};
  std::function<void(const EpochReport&)> on_epoch{};
  std::function<bool()> should_stop{};  // asked after every batch
};

struct FitResult {
  bool interrupted = false;  // should_stop() said so; weights are those of the last whole step
  std::int64_t steps = 0;
  Position at{};                     // to go on from here
  std::vector<EpochReport> epochs;   // the finished ones
  std::optional<Scaling> scaling{};  // with a grad scaler
  double seconds = 0.0;              // spent in training steps, gathering included
  double images_per_second = 0.0;
  /// Ours: in all steps, those on test data too. Library: in training steps. 0 where nobody counts.
  memory::AllocationCounts allocations{};
  std::size_t predicted_peak_bytes = 0;
  std::size_t measured_peak_bytes = 0;
  bool guards_intact = true;
  std::optional<Profile> profile;  // of a training step, where asked for and not interrupted
};

/// The loss became NaN or infinite; with a grad scaler, which skips such steps, in 20 on end. Or a
/// parameter did, by the end of an epoch. what() names the epoch and the step or the parameter.
struct DivergedError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Trains `program`, compiled from `task` (made with tables_of(data)), for so many epochs over
/// data.train, each in an order of its own, and measures it on data.test after each. The data is
/// lent to the program meanwhile and read where it lies; each step gathers its own batch, or with
/// TaskSpec::read_ahead a thread gathers the next one meanwhile, and the last one of an epoch may
/// be short. After the first step nothing of ours allocates. Throws ArgumentError for epochs below
/// 1 and for those that were all done before, a position in other data, a task without tables, a
/// batch larger than the data and bad labels, ShapeError for data of another shape than the tables,
/// DivergedError.
FitResult fit(const Task& task, Program& program, const Split& data, const FitOptions& options = {},
              const FitCallbacks& callbacks = {});

struct Measured {
  double loss = 0.0, accuracy = 0.0;  // means over the samples
};
/// Over data.test, changing nothing. Throws as fit() does for data that does not fit.
Measured evaluate(const Task& task, Program& program, const Split& data);

}  // namespace poolgrad::train

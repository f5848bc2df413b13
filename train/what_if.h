// What-if: what training would take at other batches and settings, by arithmetic alone. No data is
// read and no memory taken; how one plan comes about is in engine/compile.h.
#pragma once

#include <span>
#include <vector>

#include "train/task.h"

namespace poolgrad::train {

/// What one batch takes, in bytes, over all entries.
struct Needs {
  std::int64_t batch = 0;
  std::size_t peak_bytes = 0;  // Blueprint::predicted_peak_bytes(): the arena, where it is planned
  std::size_t lower_bound_bytes = 0;
  std::size_t sum_bytes = 0;         // without any reuse
  std::size_t persistent_bytes = 0;  // parameters, moments, inputs
};

/// Of `spec` at another batch. A limit in `options` is not looked at; of a table of times only what
/// it has counts, as in all that follows: nothing is timed. Throws as make_task() and
/// draft() do, BudgetError among it.
[[nodiscard]] Needs needs(const TaskSpec& spec, const poolgrad::Options& options,
                          std::int64_t batch);

/// One row per batch.
[[nodiscard]] std::vector<Needs> sweep(const TaskSpec& spec, const poolgrad::Options& options,
                                       std::span<const std::int64_t> batches);

/// The largest batch whose peak is at most a limit.
///
/// More samples mostly take more bytes, but not always: where a batch is taken in more chunks, or
/// cut elsewhere, the peak drops, for the cnn from 35.4 to 14.5 MiB between 491 and 493, as
/// `poolgrad plan --model cnn --threads 1 --sweep batch=491..493:1` says. So "largest" is said
/// exactly: no plan of a batch above `by_bound`, up to `checked`, fits. Between two batches whose
/// programs have the same slots with the same lifetimes each slot only grows, and the lower bound
/// with it; where lifetimes differ, the search goes down to the batch at which they change, unless
/// neither end's program could fit in between, be the batch as small as at the lower end. It begins
/// at the first power of two whose lower bound is more than four times the limit. Where plans reach
/// their bounds, at.batch is by_bound. Where they miss them it is smaller: the 16 batches below
/// by_bound are planned one by one, those further down in strides.
struct LargestBatch {
  Needs at{};                 // of it; with batch 0 where not even 1 fits, and then what 1 takes
  std::int64_t by_bound = 0;  // the largest whose lower bound fits: no plan of a larger one does
  std::int64_t checked = 0;
  int drafts = 0;  // how often a program was drafted
};
/// Throws ArgumentError for a budget in `options`, with which plans do not grow with the batch.
[[nodiscard]] LargestBatch largest_batch(const TaskSpec& spec, const poolgrad::Options& options,
                                         std::size_t limit_bytes);

/// The same program in more or fewer goes.
struct Setting {
  int threads = 1, chunks = 1;
  Needs needs{};
};

/// What `spec` takes with 1 and with options.threads members, in 1, 2, 4, ... chunks as long as
/// each has a sample; smallest peak first. Throws as needs() does.
[[nodiscard]] std::vector<Setting> settings_by_peak(const TaskSpec& spec,
                                                    const poolgrad::Options& options);

/// The smallest Options::budget_bytes with which `spec` trains, all else as in `options`: what the
/// backward pass reads is computed again as far as that helps. A budget in `options` is not looked
/// at.
[[nodiscard]] std::size_t smallest_budget(const TaskSpec& spec, const poolgrad::Options& options);

}  // namespace poolgrad::train

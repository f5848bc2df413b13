// The loop: say which rows are next, run a step, again and again; reports between are not in it.
#include "train/fit.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <tuple>

#include "train/batches.h"
#include "train/read_ahead.h"

namespace poolgrad::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void add(memory::AllocationCounts& sum, const memory::AllocationCounts& more) {
  sum.ours += more.ours;
  sum.library += more.library;
  sum.ours_bytes += more.ours_bytes;
  sum.library_bytes += more.library_bytes;
  sum.largest_library_bytes = std::max(sum.largest_library_bytes, more.largest_library_bytes);
  sum.mmaps += more.mmaps;
}

/// Sums over the samples of an epoch.
struct Tally {
  double loss = 0.0;
  std::int64_t correct = 0, samples = 0;

  [[nodiscard]] double mean_loss() const { return loss / static_cast<double>(samples); }
  [[nodiscard]] double accuracy() const {
    return static_cast<double>(correct) / static_cast<double>(samples);
  }
};

/// A data set's columns lie where the program's tables point, for as long as this lives.
class Loan {
 public:
  Loan(Program& program, const Lent& tables, const Dataset& data)
      : program_(program), tables_(tables) {
    program.lend(tables.samples, shaped(program.to_device(data.samples), tables.samples.shape()));
    program.lend(tables.labels, program.to_device(data.labels));
  }
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;
  ~Loan() {
    try {
      program_.lend(tables_.samples, {});
      program_.lend(tables_.labels, {});
    } catch (...) {  // of a broken device: what broke it is on its way already
    }
  }

 private:
  /// The same dense values as images [n, 1, h, w] or whatever else the model takes.
  static ArrayView shaped(ArrayView values, const Shape& shape) {
    values.shape = shape;
    values.strides = Spec{shape}.strides();
    return values;
  }

  Program& program_;
  const Lent& tables_;
};

/// One entry with its feed and results at hand, so that a step touches no heap.
class Runner {
 public:
  /// `data`: where to read ahead, or null.
  Runner(Program& program, const Task& task, std::string_view entry, Tensor loss, Tensor correct,
         const Dataset* data = nullptr)
      : program_(program),
        entry_(entry),
        indices_(task.indices),
        loss_tensor_(loss),
        correct_tensor_(correct) {
    if (data != nullptr) ahead_.emplace(program, task, *data);
  }

  /// Runs the next batch; false at the end of the epoch.
  bool next(Batches& batches, Tally& tally) {
    const std::span<const Feed> feeds = next_feeds(batches);
    if (feeds.empty()) return false;
    const std::int64_t rows = feeds[0].values.shape[0];
    program_.run(entry_, feeds);
    loss_ = program_.read(loss_tensor_).as<float>()[0];
    tally.loss += static_cast<double>(loss_) * static_cast<double>(rows);
    tally.correct += program_.read(correct_tensor_).as<std::int64_t>()[0];
    tally.samples += rows;
    return true;
  }

  [[nodiscard]] float loss() const { return loss_; }

  /// Of the next batch. None is read ahead meanwhile: all slots are copied, and put back.
  Profile profile(Batches& batches, int steps) {
    return poolgrad::profile(program_, entry_, next_feeds(batches, /*go_on=*/false), steps);
  }

 private:
  /// What to feed for the next batch; nothing at the end of the epoch. Read ahead: the batch after
  /// it is on its way then, if it is to `go_on`.
  std::span<const Feed> next_feeds(Batches& batches, bool go_on = true) {
    if (!ahead_ || !ahead_->pending()) {
      const std::span<const std::int32_t> batch = batches.next();
      if (batch.empty()) return {};
      if (!ahead_) {
        const auto rows = static_cast<std::int64_t>(batch.size());
        feed_ = {indices_, ArrayView::of(batch, {rows}, DType::i32)};
        return {&feed_, 1};
      }
      ahead_->begin(batch);
    }
    const std::span<const Feed> feeds = ahead_->take();
    if (!go_on) return feeds;
    if (const std::span<const std::int32_t> after = batches.next(); !after.empty())
      ahead_->begin(after);
    return feeds;
  }

  Program& program_;
  std::string_view entry_;
  Tensor indices_;
  Tensor loss_tensor_, correct_tensor_;
  float loss_ = 0.0F;  // of the last step
  Feed feed_{};
  std::optional<ReadAhead> ahead_;
};

class Loop {
 public:
  Loop(const Task& task, Program& program, const Split& data, const FitOptions& options,
       const FitCallbacks& callbacks)
      : program_(program),
        options_(options),
        callbacks_(callbacks),
        train_data_(program, task.train, data.train),
        test_data_(program, task.test, data.test),
        train_batches_(data.train.count(), task.indices.shape()[0], options.seed),
        test_batches_(data.test.count(), std::min(task.indices.shape()[0], data.test.count()), 0),
        train_(program, task, "train", task.training.loss, task.correct,
               task.next_samples ? &data.train : nullptr),
        test_(program, task, "evaluate", task.test_loss, task.test_correct),
        scale_(task.training.scale),
        skipped_(task.training.skipped),
        parameters_(task.graph->column("parameters")) {
    result_.at = options.from;
    result_.at.seed = options.seed;
    result_.at.samples = train_batches_.samples();
    result_.at.batch = train_batches_.batch();
    if (options.from != Position{}) check(options.from, result_.at, "fit");
    if (options.from.epochs >= options.epochs)
      throw ArgumentError(text("fit: ", options.epochs, " epochs, but ", options.from.epochs,
                               " were done before; take more"));
  }

  FitResult run() {
    program_.watch_peak();
    while (result_.at.epochs < options_.epochs && !result_.interrupted) {
      const Clock::time_point begin = Clock::now();
      EpochReport report{.epoch = static_cast<int>(result_.at.epochs) + 1};
      if (!train(report) || !test(report)) {
        result_.interrupted = true;
        break;
      }
      report.seconds = seconds_since(begin);
      check_parameters(report.epoch);
      at_end_of_epoch();
      report.at = result_.at;
      report.scaling = scaling();
      result_.epochs.push_back(report);
      if (callbacks_.on_epoch) callbacks_.on_epoch(report);
    }
    result_.scaling = scaling();
    result_.images_per_second = images_per_second();
    result_.predicted_peak_bytes = program_.blueprint().predicted_peak_bytes();
    result_.measured_peak_bytes = program_.measured_peak_bytes();
    result_.guards_intact = program_.guards_intact();
    if (options_.profile_steps > 0 && !result_.interrupted) {
      train_batches_.in_order();
      result_.profile = train_.profile(train_batches_, options_.profile_steps);
    }
    return std::move(result_);
  }

 private:
  bool train(EpochReport& report) {
    Position& at = result_.at;
    Tally tally{at.loss_sum, at.correct, at.measured};
    StepReport progress{.epoch = report.epoch, .step = at.steps, .of = train_batches_.per_epoch()};
    train_batches_.shuffle(report.epoch);
    train_batches_.skip(at.steps);
    for (Tally before = tally; step(tally); before = tally) {
      at.steps = ++progress.step;
      if (std::isfinite(train_.loss())) {
        not_finite_ = 0;
      } else {
        check_diverged(progress);
        tally = before;  // it is not counted
      }
      at.measured = tally.samples;
      at.loss_sum = tally.loss;
      at.correct = tally.correct;
      if (callbacks_.on_step) {
        progress.loss = tally.mean_loss();
        progress.accuracy = tally.accuracy();
        progress.images_per_second = images_per_second();
        callbacks_.on_step(progress);
      }
      if (callbacks_.should_stop && callbacks_.should_stop()) return false;
    }
    report.train_loss = tally.mean_loss();
    report.train_accuracy = tally.accuracy();
    return true;
  }

  /// The loss of the last step is not finite: a grad scaler has skipped that one, and may find a
  /// scale with which the next are.
  void check_diverged(const StepReport& at) {
    constexpr int kMostOnEnd = 20;
    if (skipped_ && ++not_finite_ < kMostOnEnd) return;
    const std::string often =
        skipped_ ? text(", and in the ", kMostOnEnd - 1, " before it, which were skipped") : "";
    throw DivergedError(text("fit: the loss became ", train_.loss(), " at step ", at.step,
                             " of epoch ", at.epoch, often, "; lower the learning rate"));
  }

  /// A loss can stay finite all the same: a fused ReLU may make 0 of NaN.
  void check_parameters(int epoch) const {
    for (const Tensor& parameter : parameters_) {
      const ArrayView read = program_.read(parameter);
      if (std::ranges::all_of(read.as<float>(), [](float x) { return std::isfinite(x); })) continue;
      throw DivergedError(text("fit: parameter '", parameter.graph->name(parameter.id),
                               "' is no longer finite after epoch ", epoch,
                               "; lower the learning rate"));
    }
  }

  [[nodiscard]] std::optional<Scaling> scaling() const {
    if (!skipped_) return {};
    return Scaling{program_.read(scale_).as<float>()[0],
                   program_.read(skipped_).as<std::int64_t>()[0]};
  }

  /// A step of the loop in the words of FitResult: what it allocates and how long it takes counts.
  bool step(Tally& tally) {
    const Clock::time_point begin = Clock::now();
    const memory::AllocationWindow window;
    const std::int64_t before = tally.samples;
    if (!train_.next(train_batches_, tally)) return false;
    add(result_.allocations, window.counts());
    result_.seconds += seconds_since(begin);
    images_ += tally.samples - before;
    ++result_.steps;
    return true;
  }

  bool test(EpochReport& report) {
    Tally tally;
    test_batches_.in_order();
    const auto next = [&] {  // part of the loop too, but no training step: only what is ours counts
      const memory::AllocationWindow window;
      const bool more = test_.next(test_batches_, tally);
      result_.allocations.ours += window.counts().ours;
      result_.allocations.ours_bytes += window.counts().ours_bytes;
      return more;
    };
    while (next()) {
      if (callbacks_.should_stop && callbacks_.should_stop()) return false;
    }
    report.test_loss = tally.mean_loss();
    report.test_accuracy = tally.accuracy();
    return true;
  }

  void at_end_of_epoch() {
    Position& at = result_.at;
    ++at.epochs;
    at.steps = at.measured = at.correct = 0;
    at.loss_sum = 0.0;
  }

  [[nodiscard]] double images_per_second() const {
    return result_.seconds > 0 ? static_cast<double>(images_) / result_.seconds : 0.0;
  }

  Program& program_;
  const FitOptions& options_;
  const FitCallbacks& callbacks_;
  Loan train_data_, test_data_;
  Batches train_batches_, test_batches_;
  Runner train_, test_;
  Tensor scale_, skipped_;  // the latter empty without a grad scaler
  std::vector<Tensor> parameters_;
  int not_finite_ = 0;  // losses on end
  FitResult result_;
  std::int64_t images_ = 0;
};

void check_fits(const Task& task, const Program& program, const Split& data) {
  if (!task.indices)
    throw ArgumentError(
        "fit: the task gathers no batches; give its spec .tables = tables_of(data)");
  if (task.next_samples && program.blueprint().options.launcher)
    throw ArgumentError(
        "fit: reading ahead is for the CPU, a device's feeds cross by themselves; switch it off");
  const std::int64_t classes = task.logits.shape()[1];
  for (const auto& [part, tables, name] : {std::tuple(&data.train, &task.train, "training data"),
                                           std::tuple(&data.test, &task.test, "test data")}) {
    check(*part, text("fit: ", name));
    const Spec &samples = tables->samples.spec(), &labels = tables->labels.spec();
    if (part->samples.shape.count() != samples.shape.count() ||
        part->labels.shape != labels.shape || part->samples.dtype != samples.dtype ||
        part->labels.dtype != labels.dtype) {
      throw ShapeError(text("fit: ", name, " ", part->samples.shape, " of ", part->samples.dtype,
                            " with labels ", part->labels.shape, " of ", part->labels.dtype,
                            " but the task was made for ", samples.shape, " of ", samples.dtype,
                            " with labels ", labels.shape, " of ", labels.dtype,
                            "; make it with .tables = tables_of(data)"));
    }
    if (part->classes > classes) {
      throw ShapeError(text("fit: the data has ", part->classes, " classes but the model answers ",
                            task.logits.shape(), "; give it as many outputs"));
    }
  }
}

}  // namespace

FitResult fit(const Task& task, Program& program, const Split& data, const FitOptions& options,
              const FitCallbacks& callbacks) {
  if (options.epochs < 1)
    throw ArgumentError(text("fit: ", options.epochs, " epochs; take at least one"));
  check_fits(task, program, data);
  return Loop(task, program, data, options, callbacks).run();
}

Measured evaluate(const Task& task, Program& program, const Split& data) {
  check_fits(task, program, data);
  const Loan loan(program, task.test, data.test);
  Batches batches(data.test.count(), std::min(task.indices.shape()[0], data.test.count()), 0);
  Runner runner(program, task, "evaluate", task.test_loss, task.test_correct);
  Tally tally;
  while (runner.next(batches, tally)) {
  }
  return {tally.mean_loss(), tally.accuracy()};
}

}  // namespace poolgrad::train

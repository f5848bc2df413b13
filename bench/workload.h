// Workload: a training step over and over, on batches that already lie in memory, and windows of
// time over it. What the benches share; which question is asked is theirs.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <sys/resource.h>

#include "engine/program.h"
#include "train/batches.h"
#include "train/task.h"

namespace poolgrad::bench {

/// "mlp_small" (784-128-10, SGD), "mlp_big" (784-1024-1024-10, Adam), or with SGD and momentum
/// "cnn" (models/cnn.h), "resnet_small" and "resnet20" (models/resnet.h, two and three blocks of
/// width 16), "chain" (models/chain.h) and "unet" (models/unet.h). On a device one kernel updates
/// all parameters, as the command has it. Throws ArgumentError for another name.
[[nodiscard]] train::TaskSpec spec_of(const std::string& model, std::int64_t batch,
                                      bool on_device = false);

/// The first samples of Fashion-MNIST in its own order; where it is not installed, noise of the
/// same shapes. Batches lie end to end, so that a step binds them where they are.
class Samples {
 public:
  Samples();

  [[nodiscard]] std::int64_t batches(std::int64_t batch) const { return kCount / batch; }
  [[nodiscard]] const ArrayView& pixels() const { return pixels_; }  // [samples, 784] f32
  [[nodiscard]] const ArrayView& labels() const { return labels_; }  // [samples] i64
  /// All of it, as bytes; nothing where it is not installed.
  [[nodiscard]] const train::Split* files() const { return data_ ? &*data_ : nullptr; }
  /// "fashion-mnist" or "noise".
  [[nodiscard]] const char* name() const { return data_ ? "fashion-mnist" : "noise"; }

 private:
  static constexpr std::int64_t kCount = 10240, kPixels = 784;  // 31 MiB: no cache holds them

  ArrayView pixels_, labels_;
  std::optional<train::Split> data_;  // kept: freeing it would teach glibc's malloc to keep memory
};

/// What a step does beside training: nothing, since its batch lies ready as it takes it, or also
/// what fit() does with files: gather the batch out of all bytes, in a new order each epoch.
enum class Source : std::uint8_t { ready, files };

/// Two feeds for a task's slots, where `pixels` and `labels` lie: batch number `index`, counted
/// round and round.
[[nodiscard]] std::array<Feed, 2> feeds(const train::Task& task, const ArrayView& pixels,
                                        const ArrayView& labels, std::int64_t index);

/// A compiled task that is being trained. Its batches lie in the program's memory.
class Training {
 public:
  /// `samples` must outlive it. Throws ArgumentError for a batch larger than all of them, and where
  /// there are no files.
  Training(const train::TaskSpec& spec, const Options& options, Samples& samples,
           Source source = Source::ready);

  /// One step on the next batch, which on a device is not waited for.
  void step(const Observer* observer = nullptr);
  void wait() const { program_.synchronize(); }
  /// Of the last step.
  [[nodiscard]] float loss() const { return program_.read(task_.training.loss).as<float>()[0]; }

  [[nodiscard]] Program& program() { return program_; }
  [[nodiscard]] const Entry& entry() const { return program_.blueprint().entry("train"); }

 private:
  train::Task task_;
  Program program_;
  ArrayView pixels_, labels_;
  std::int64_t next_ = 0;  // batch, or epoch where there are files
  std::optional<train::Batches> batches_;
};

using Clock = std::chrono::steady_clock;
[[nodiscard]] inline double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Of this process, until now.
[[nodiscard]] rusage usage();

/// Of one core: a window in which others used as much or more is a noisy one.
inline constexpr double kQuiet = 0.04;
/// Longer than a team that was disturbed stays away (pace.h): what to run, untimed, before the
/// window of a team that slept while others ran.
inline constexpr double kLeadInSeconds = 0.5;

/// Steps without a pause for some time, and what else went on meanwhile.
struct Window {
  int steps = 0;
  double step_us = 0.0;          // mean
  double faults_per_step = 0.0;  // minor page faults of this process
  double system_us_per_step = 0.0;
  double foreign_cpu = 0.0;  // of one core, used by everybody else

  [[nodiscard]] bool quiet() const { return foreign_cpu < kQuiet; }
};

/// At least one step, until `seconds` are over and all steps are done. The system counts CPU time
/// in ticks of 10 ms, so take 0.25 s or more.
[[nodiscard]] Window window(Training& training, double seconds);

/// The quantile `q` in [0, 1] of their step_us, which is that of one of them.
[[nodiscard]] double step_us(std::span<const Window> windows, double q);

/// How much more of this process has been in memory, at most, than when this was made.
class ResidentPeak {
 public:
  ResidentPeak();
  [[nodiscard]] std::size_t bytes() const;

 private:
  std::size_t before_;
};

/// What there is to say of a program: the loss of step 20, the peak until then, and what was
/// planned. Then a window that nobody measures, in which caches, branch predictors and allocators
/// get used to it.
[[nodiscard]] nlohmann::ordered_json facts(Training& training, double window_seconds);

/// "[32, 784] [128, 784]".
[[nodiscard]] std::string shapes_of(const std::vector<Spec>& specs);

/// A number from 1 on, out of a command line. Throws ArgumentError.
[[nodiscard]] int positive(const char* name, const char* value);

/// main() of a bench: calls `measure`, and turns errors into a line on standard error and exit code
/// 2 (ArgumentError) or 1. With the one argument `versions` it prints as JSON what the bench runs
/// on, with `gpus` how many GPUs there are, and why none.
int run_bench(int argc, char** argv, void (*measure)(int, char**));

}  // namespace poolgrad::bench

// The flags that train and plan have in common: all that changes a plan.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "train/task.h"

namespace poolgrad::cli {

/// As typed; what is not there was not said.
struct PlanFlags {
  std::string model = "mlp";
  std::vector<std::int64_t> hidden;
  std::optional<std::int64_t> blocks, width;
  std::int64_t batch = 64;
  std::string optimizer = "adam";
  double rate = 1e-3;
  std::optional<double> momentum, weight_decay, clip_grad_norm, loss_scale;
  bool nesterov = false, no_winograd = false, read_ahead = false, allow_tf32 = false;
  std::uint64_t seed = 0;
  std::optional<int> threads;
  std::string chunks = "auto";
  std::string memory = "planned";
  std::string device = "cpu";
  std::string precision = "f32";
  std::string memory_limit, budget, tune;
};

/// Adds the flags to `command` and answers the options, for commands that exclude them.
std::vector<CLI::Option*> add_plan_flags(CLI::App& command, PlanFlags& flags);

/// What is to be trained, for samples of one shape. Throws ArgumentError for names that nobody has
/// and flags that do not go together.
[[nodiscard]] train::TaskSpec task_spec(const PlanFlags& flags, const Shape& sample,
                                        std::int64_t classes);

/// How it is to be compiled. Without --memory-limit there is no limit here. Reads the table of
/// --tune; save_tuning() of tuning.h writes what was added to it.
[[nodiscard]] Options program_options(const PlanFlags& flags);

/// "4096", "512MiB", "1.5 GB": bytes, with K, M, G, T as powers of 1000 and Ki, Mi, Gi, Ti as
/// powers of 1024, B or not, in any case. Throws ArgumentError that begins with `flag`.
[[nodiscard]] std::size_t parse_bytes(const std::string& typed, const std::string& flag);

}  // namespace poolgrad::cli

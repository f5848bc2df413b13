// Profile: where the time of an entry goes, node by node, while whoever runs it really runs it.
// What kernels would take alone is bench/limits.cpp's question.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/program.h"

namespace poolgrad {

/// What one member of the team did in a step, in microseconds; the three add up to the step.
struct MemberTime {
  double busy_us = 0.0;  // in kernels
  double wait_us = 0.0;  // for others, where phases begin and at the end
  double rest_us = 0.0;  // between kernels of one phase: the engine's own work, and the clock's
};

/// Times of some steps, as they were taken.
struct StepTimes {
  std::vector<double> step_us;               // per step
  std::vector<std::vector<double>> node_us;  // per step and place in Entry::steps
  /// Per step and member. Where one thread ran all members' shares there is one of it.
  std::vector<std::vector<MemberTime>> members;

  [[nodiscard]] double median_step_us() const;
  [[nodiscard]] std::vector<double> median_node_us() const;
};

/// Calls `run` so often, which must run the entry once and pass the observer on. The clock is read
/// twice per node.
[[nodiscard]] StepTimes time_steps(const Entry& entry, int steps,
                                   const std::function<void(const Observer&)>& run);

/// All nodes of one op in one layer.
struct ProfileRow {
  std::string op, layer;  // "conv2d", "0"; the layer is empty outside layers
  int calls = 0;          // nodes per step, parts and chunks counted
  double us = 0.0;        // of all of them together, on all members: the median step
  double share = 0.0;     // of the sum over rows
  double flops = 0.0;     // per step, of plain sums; 0 where moving bytes is the work
  double bytes = 0.0;     // per step, each operand of each node once

  /// Of plain sums (OpDef::flops) per second: tiles do fewer, so it may exceed the machine's rate.
  [[nodiscard]] double gflops() const { return flops / us * 1e-3; }
  [[nodiscard]] double gbs() const { return bytes / us * 1e-3; }
};

struct Profile {
  int steps = 0;
  double step_us = 0.0;             // median
  std::vector<ProfileRow> rows;     // slowest first
  std::vector<MemberTime> members;  // medians; one where one thread ran all
};

/// Runs the entry for a while, then `steps` times with a clock; what it changes is put back, so
/// training goes on as if nothing had been. Throws ArgumentError for steps below 1, and what run()
/// throws.
[[nodiscard]] Profile profile(Program& program, std::string_view entry,
                              std::span<const Feed> feeds = {}, int steps = 50);

/// A table: the `most` slowest rows, then the members.
[[nodiscard]] std::string describe(const Profile& profile, std::size_t most = 20);

}  // namespace poolgrad

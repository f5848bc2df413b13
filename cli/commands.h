// The subcommands, one file each. Each adds itself to the command line and runs when it was named.
#pragma once

#include <CLI/CLI.hpp>

namespace poolgrad::cli {

/// What the process answers to its caller.
enum ExitCode : int {
  kSuccess = 0,
  kFailure = 1,
  kUsage = 2,       // of what CLI11 refuses, too
  kInfeasible = 3,  // plan --capacity: no plan is within it
  kTimeout = 4,     // plan --capacity: none was found in time
  kInterrupted = 130,
};

/// `exit_code` is set when the subcommand ends otherwise than well, and errors are thrown.
void add_train(CLI::App& app, int& exit_code);
void add_plan(CLI::App& app, int& exit_code);
void add_info(CLI::App& app);

}  // namespace poolgrad::cli

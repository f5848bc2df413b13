// Files of --save, --resume and --weights: the checkpoint of train/checkpoint.h, with the flags of
// the run that wrote it.
#pragma once

#include <map>
#include <string>

#include <CLI/CLI.hpp>

#include "cli/flags.h"
#include "train/checkpoint.h"

namespace poolgrad::cli {

/// How errors about a file begin: "--resume cnn.safetensors".
[[nodiscard]] std::string named(const std::string& flag, const std::string& path);

/// What is in a file, by its header alone: the arrays have no data. Throws FileError.
[[nodiscard]] train::Checkpoint look_into(const std::string& path);
/// The same with its data. Call it when what the header says was found to fit.
[[nodiscard]] train::Checkpoint read_checkpoint(const std::string& path);

/// Gives `command` the flags of the run that wrote `from`, as if they had been typed, but for those
/// that were. Throws ArgumentError for a typed one that makes another model, optimizer or order,
/// FileError for text that no run writes. `name` begins the message.
void take_flags(CLI::App& command, const PlanFlags& flags, const train::Checkpoint& from,
                const std::string& name);

/// Where the run that wrote `from` was. Throws unless `task` can go on from there, with so many
/// samples to train on.
[[nodiscard]] train::Position position_for(const train::Task& task, const PlanFlags& flags,
                                           std::int64_t samples, const train::Checkpoint& from,
                                           const std::string& name);

/// Tells standard error where sums will be rounded otherwise than in the run that wrote `from`.
void tell_of_other_bits(const train::Checkpoint& from, const Options& options);

/// Writes to `path` what a run with these flags goes on from, complete or not at all. Throws
/// FileError.
void save_checkpoint(const std::string& path, const train::Task& task, const Program& program,
                     const train::Position& at, const PlanFlags& flags, int epochs);

}  // namespace poolgrad::cli

// The questions of poolgrad plan about more than one plan: --max-batch, --sweep, --smallest.
#pragma once

#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "train/what_if.h"

namespace poolgrad::cli {

struct WhatIfFlags {
  std::string max_batch, sweep;
  bool smallest = false;

  [[nodiscard]] bool asked() const { return !max_batch.empty() || !sweep.empty() || smallest; }
};

/// Adds the flags, which exclude each other and those of `command` that they have no answer for,
/// and answers them.
std::vector<CLI::Option*> add_what_if_flags(CLI::App& command, WhatIfFlags& flags);

/// "batch=1..1024": 1, 2, 4, ... and the last one; "batch=1..1024:32": the first, multiples of 32,
/// and the last. Throws ArgumentError.
[[nodiscard]] std::vector<std::int64_t> parse_sweep(const std::string& typed);

/// What is asked about, and how the answer is wanted.
struct Question {
  train::TaskSpec spec;
  Options options;
  std::string subject;  // "the cnn with adam", for the picture's title
  std::string svg;      // where a sweep is drawn; empty: nowhere
  bool json = false;    // JSON lines instead of text
};

/// Answers the question that was asked. Answers the exit code: a failure where not even one sample
/// fits.
[[nodiscard]] int answer_what_if(const WhatIfFlags& flags, const Question& question);

}  // namespace poolgrad::cli

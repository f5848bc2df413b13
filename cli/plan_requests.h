// The CSV mode of poolgrad plan: buffers in, offsets out. Models are not known here.
#pragma once

#include <optional>
#include <string>

#include <CLI/CLI.hpp>

namespace poolgrad::cli {

struct RequestFlags {
  std::string input, output;
  std::optional<std::string> capacity;
  std::size_t align = 64;
  double timeout = 10;
};

/// Adds the flags of this mode to `command` and answers --input, which chooses it.
CLI::Option* add_request_flags(CLI::App& command, RequestFlags& flags);

/// Plans the buffers in flags.input, writes flags.output and `svg` where named, and prints what
/// came of it. Answers the exit code: with a capacity kInfeasible where no plan is within it,
/// kTimeout where none was found in time.
[[nodiscard]] int plan_requests(const RequestFlags& flags, const std::string& svg, bool json);

}  // namespace poolgrad::cli

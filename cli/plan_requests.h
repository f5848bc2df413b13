// The CSV mode of poolgrad plan: buffers in, offsets out. Models are not known here.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace poolgrad::cli {

struct RequestFlags {
  std::string input;
};

/// Adds the flags of this mode to `command` and answers --input, which chooses it.
CLI::Option* add_request_flags(CLI::App& command, RequestFlags& flags);

/// Plans the buffers in flags.input and prints what came of it. Answers the exit code.
[[nodiscard]] int plan_requests(const RequestFlags& flags, bool json);

}  // namespace poolgrad::cli

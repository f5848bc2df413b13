// What the command prints: JSON lines, and the plan as text.
#pragma once

#include <iosfwd>
#include <string>

#include <nlohmann/json.hpp>

#include "engine/profile.h"

namespace poolgrad::cli {

using Json = nlohmann::ordered_json;

/// One object per line, flushed: whoever reads a pipe sees it at once.
void print_line(std::ostream& out, const Json& object);

/// {"event":"plan", "arena_bytes", "lower_bound_bytes", "sum_bytes", "persistent_bytes",
/// "made_again" and "extra_time" of entry "train"}.
[[nodiscard]] Json plan_event(const Blueprint& blueprint);

/// The same with "entries": for each its name, bytes, steps, and at its fullest moment the steps
/// that run, bytes by layer and role, and who is alive and why.
[[nodiscard]] Json plan_details(const Blueprint& blueprint);

/// The plan of entry "train" in a few lines, and what it holds for.
void print_plan(std::ostream& out, const Blueprint& blueprint);

/// What a plan holds for: instruction set and libraries, and a memory mode that has no arena.
void print_conditions(std::ostream& out, const Blueprint& blueprint);

/// {"event":"profile", "steps", "step_us", "ops", "members"}, as engine/profile.h has them; the
/// rate of an op is "gflops" or "gbs".
[[nodiscard]] Json profile_event(const Profile& profile);

/// "1,234,567".
[[nodiscard]] std::string grouped(std::size_t number);

}  // namespace poolgrad::cli

// Plan files: requests as CSV, one a line, and the same with their offsets. Planning is not here.
#pragma once

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

#include "memory/plan.h"

namespace poolgrad::memory {

/// The header `id,lower,upper,size`, optionally with `alignment`, with `at` (a fixed offset, empty
/// for none) and with `member,first_phase,end_phase` (all three), in any order; [lower, upper) and
/// the phases are half-open, sizes, alignments and offsets are bytes. An `offset` column is passed
/// over, so that what was written can be read again.
struct PlanFile {
  std::vector<std::string> ids;
  std::vector<Request> requests;  // one per id
};

/// Reads requests from `in`; `name` stands for it in errors. Throws std::runtime_error naming file,
/// line, column and value.
[[nodiscard]] PlanFile read_plan(std::istream& in, const std::string& name);
[[nodiscard]] PlanFile read_plan(const std::filesystem::path& path);

/// Writes the requests with one more column, `offset`. Only columns that say something are written.
/// Throws std::runtime_error when `out` fails.
void write_plan(std::ostream& out, const PlanFile& file, const Plan& plan);

/// As above, to a new file put in place of `path` when complete: nothing is ever half-written.
void write_plan(const std::filesystem::path& path, const PlanFile& file, const Plan& plan);

}  // namespace poolgrad::memory

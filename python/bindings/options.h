// What compile() and compile_graph() have in common: their options, and the plan they answer with.
#pragma once

#include "engine/program.h"
#include "engine/report.h"
#include "python/bindings/bindings.h"

namespace poolgrad::python {

/// From keyword arguments, None meaning the default. Throws ArgumentError for a name that is no
/// option and for a value out of range.
Options options_of(const nb::dict& arguments);

inline constexpr const char* kWaitFor =
    "Steps from now on wait for what is on this stream now: for others who write or still read "
    "shared bytes.\nA number as in __dlpack__(), a stream of torch's or CuPy's, anything with "
    "__cuda_stream__; None is the\nlegacy default stream. Nothing on the CPU.";
inline constexpr const char* kMakeWait =
    "What is put on this stream from now on waits for the steps so far. Streams as in wait_for().";

/// Who reads what a program is fed, and what it is lent: its streams, where it has some.
Reader feeds_of(const Program& program);
Reader tables_of(const Program& program);

/// Somebody's stream, on the program's device. Throws ArgumentError for any but None on the CPU.
memory::Stream stream_of(nb::handle stream, const Program& program);

/// Writes what drafting with `options` has timed to the file that `arguments` names as 'tune', if
/// any.
void save_tuning(const nb::dict& arguments, const Options& options);

/// A plan as numbers, rows and text, of its largest entry. It keeps nothing alive.
struct PlanReport {
  std::size_t arena_bytes = 0, persistent_bytes = 0, scratch_bytes = 0;
  std::size_t lower_bound_bytes = 0, sum_bytes = 0, predicted_peak_bytes = 0;
  int made_again = 0;
  double extra_time = 0.0;
  std::string memory, entry, text;
  std::vector<ReportRow> rows;
};
PlanReport plan_of(const Blueprint& blueprint);

void bind_plan(nb::module_& module);

}  // namespace poolgrad::python

// Lines that more than one subcommand prints.
#include "cli/output.h"

#include <ostream>

#include "engine/machine.h"
#include "engine/report.h"

namespace poolgrad::cli {

void print_line(std::ostream& out, const Json& object) { out << object.dump() << std::endl; }

Json plan_event(const Blueprint& blueprint) {
  return {{"event", "plan"},
          {"arena_bytes", blueprint.arena_bytes()},
          {"lower_bound_bytes", blueprint.lower_bound_bytes()},
          {"sum_bytes", blueprint.sum_bytes()},
          {"persistent_bytes", blueprint.persistent_bytes}};
}

void print_plan(std::ostream& out, const Blueprint& blueprint) {
  out << describe(blueprint, "train") << "for " << instruction_set() << " and " << kernel_library()
      << "\n";
  if (blueprint.options.memory != Memory::planned) {
    out << "memory is " << to_string(blueprint.options.memory)
        << ": scratch comes tensor by tensor, at most "
        << human_bytes(blueprint.predicted_peak_bytes()) << " in all\n";
  }
  out.flush();
}

std::string grouped(std::size_t number) {
  std::string digits = std::to_string(number);
  for (std::size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
  return digits;
}

}  // namespace poolgrad::cli

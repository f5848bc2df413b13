// Plans the buffers of a CSV file. Reading and planning are in memory/.
#include "cli/plan_requests.h"

#include <chrono>
#include <filesystem>
#include <iomanip>
#include <iostream>

#include "cli/commands.h"
#include "cli/output.h"
#include "engine/report.h"
#include "memory/plan_file.h"

namespace poolgrad::cli {

CLI::Option* add_request_flags(CLI::App& command, RequestFlags& flags) {
  return command.add_option("--input", flags.input, "plan these buffers: id,lower,upper,size")
      ->type_name("FILE.csv");
}

int plan_requests(const RequestFlags& flags, bool json) {
  const memory::PlanFile file = memory::read_plan(std::filesystem::path(flags.input));
  const auto begin = std::chrono::steady_clock::now();
  const memory::Plan plan = memory::plan(file.requests);
  const std::chrono::duration<double, std::milli> ms = std::chrono::steady_clock::now() - begin;
  if (json) {
    print_line(std::cout, {{"buffers", file.requests.size()},
                           {"lower_bound_bytes", plan.lower_bound_bytes},
                           {"arena_bytes", plan.arena_bytes},
                           {"optimal", plan.optimal()},
                           {"ms", ms.count()}});
    return kSuccess;
  }
  std::cout << file.requests.size() << " buffers in " << grouped(plan.arena_bytes)
            << " bytes, lower bound " << grouped(plan.lower_bound_bytes)
            << (plan.optimal() ? " (reached)" : "") << ", "
            << human_bytes(memory::sum_bytes(file.requests)) << " without reuse, " << std::fixed
            << std::setprecision(1) << ms.count() << " ms\n";
  return kSuccess;
}

}  // namespace poolgrad::cli

// Plans the buffers of a CSV file. Reading and planning are in memory/.
#include "cli/plan_requests.h"

#include <chrono>
#include <filesystem>
#include <iomanip>
#include <iostream>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/requests_svg.h"
#include "engine/error.h"
#include "engine/report.h"
#include "interop/atomic_file.h"
#include "memory/plan_file.h"

namespace poolgrad::cli {
namespace {

memory::PlanOptions options_of(const RequestFlags& flags) {
  if (!memory::is_alignment(flags.align))
    throw ArgumentError(text("--align: ", flags.align, " is no power of two; give one such as 64"));
  if (!(flags.timeout > 0))
    throw ArgumentError(text("--timeout: ", flags.timeout, " is no time; give seconds above 0"));
  memory::PlanOptions options;
  options.alignment = flags.align;
  options.nodes = -1;
  options.seconds = flags.timeout;
  if (flags.capacity) options.capacity = parse_bytes(*flags.capacity, "--capacity");
  return options;
}

Json witness_of(const memory::Plan& plan) {
  Json steps = Json::array();
  for (const auto& [member, step] : plan.witness.steps)
    steps.push_back({{"member", member}, {"step", step}});
  return {{"phase", plan.witness.phase}, {"steps", steps}};
}

void print(const memory::PlanFile& file, const memory::Plan& plan, double ms,
           std::size_t alignment) {
  std::cout << file.requests.size() << " buffers in " << grouped(plan.arena_bytes)
            << " bytes, lower bound " << grouped(plan.lower_bound_bytes);
  if (plan.arena_bytes == plan.lower_bound_bytes) {
    std::cout << " (reached)";
  } else {
    const auto bound = static_cast<double>(std::max<std::size_t>(1, plan.lower_bound_bytes));
    std::cout << " (" << std::fixed << std::setprecision(2)
              << 100 * (static_cast<double>(plan.arena_bytes) / bound - 1) << " % above it"
              << (plan.optimal() ? ", and no plan is smaller" : "") << ")";
  }
  std::cout << ", " << human_bytes(memory::sum_bytes(file.requests, alignment))
            << " without reuse, " << std::fixed << std::setprecision(1) << ms << " ms\n";
}

}  // namespace

CLI::Option* add_request_flags(CLI::App& command, RequestFlags& flags) {
  CLI::Option* input =
      command.add_option("--input", flags.input, "plan these buffers: id,lower,upper,size")
          ->type_name("FILE.csv");
  command.add_option("--output", flags.output, "write them with one more column, offset")
      ->needs(input)
      ->type_name("FILE.csv");
  command.add_option("--capacity", flags.capacity, "stop at a plan within so many bytes")
      ->needs(input)
      ->type_name("BYTES");
  command.add_option("--align", flags.align, "of every offset, a power of two")
      ->capture_default_str()
      ->needs(input)
      ->type_name("BYTES");
  command.add_option("--timeout", flags.timeout, "seconds after which the best plan found counts")
      ->capture_default_str()
      ->needs(input)
      ->type_name("SECONDS");
  return input;
}

int plan_requests(const RequestFlags& flags, const std::string& svg, bool json) {
  const memory::PlanOptions options = options_of(flags);
  const memory::PlanFile file = memory::read_plan(std::filesystem::path(flags.input));
  const auto begin = std::chrono::steady_clock::now();
  const memory::Plan plan = memory::plan(file.requests, options);
  const std::chrono::duration<double, std::milli> ms = std::chrono::steady_clock::now() - begin;
  if (!flags.output.empty()) memory::write_plan(std::filesystem::path(flags.output), file, plan);
  if (!svg.empty()) {
    interop::AtomicFile picture(svg);
    picture.write(requests_svg(file, plan));
    picture.commit();
  }
  if (json) {
    print_line(std::cout, {{"buffers", file.requests.size()},
                           {"lower_bound_bytes", plan.lower_bound_bytes},
                           {"witness", witness_of(plan)},
                           {"arena_bytes", plan.arena_bytes},
                           {"optimal", plan.optimal()},
                           {"ms", ms.count()},
                           {"nodes", plan.nodes}});
  } else {
    print(file, plan, ms.count(), options.alignment);
  }
  if (!flags.capacity || plan.arena_bytes <= options.capacity) return kSuccess;
  return plan.stop == memory::Stop::proved ? kInfeasible : kTimeout;
}

}  // namespace poolgrad::cli

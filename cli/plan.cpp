// poolgrad plan: what training would take, without data and without training; or the plan of any
// buffers in a CSV file.
#include <chrono>
#include <iomanip>
#include <iostream>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "engine/report.h"
#include "engine/timeline_svg.h"
#include "interop/atomic_file.h"
#include "memory/plan_file.h"

namespace poolgrad::cli {
namespace {

struct Flags {
  PlanFlags plan;
  std::string input, svg;
  bool json = false;
};

void plan_model(const Flags& flags) {
  const train::TaskSpec spec = task_spec(flags.plan, {1, 28, 28}, 10);
  const train::Task task = train::make_task(spec);
  const Blueprint blueprint = train::draft_task(spec, task, program_options(flags.plan));
  if (!flags.svg.empty()) {
    interop::AtomicFile file(flags.svg);
    file.write(timeline_svg(blueprint, "train"));
    file.commit();
  }
  if (flags.json) {
    print_line(std::cout, plan_event(blueprint));
  } else {
    print_plan(std::cout, blueprint);
  }
}

void plan_file(const Flags& flags) {
  const memory::PlanFile file = memory::read_plan(std::filesystem::path(flags.input));
  const auto begin = std::chrono::steady_clock::now();
  const memory::Plan plan = memory::plan(file.requests);
  const std::chrono::duration<double, std::milli> ms = std::chrono::steady_clock::now() - begin;
  if (flags.json) {
    print_line(std::cout, {{"buffers", file.requests.size()},
                           {"lower_bound_bytes", plan.lower_bound_bytes},
                           {"arena_bytes", plan.arena_bytes},
                           {"optimal", plan.optimal()},
                           {"ms", ms.count()}});
    return;
  }
  std::cout << file.requests.size() << " buffers in " << grouped(plan.arena_bytes)
            << " bytes, lower bound " << grouped(plan.lower_bound_bytes)
            << (plan.optimal() ? " (reached)" : "") << ", "
            << human_bytes(memory::sum_bytes(file.requests)) << " without reuse, " << std::fixed
            << std::setprecision(1) << ms.count() << " ms\n";
}

}  // namespace

void add_plan(CLI::App& app) {
  CLI::App* command = app.add_subcommand("plan", "Print what training would take, without data");
  auto flags = std::make_shared<Flags>();
  std::vector<CLI::Option*> of_models = add_plan_flags(*command, flags->plan);
  of_models.push_back(
      command->add_option("--svg", flags->svg, "draw the arena over one training step")
          ->type_name("FILE.svg"));
  CLI::Option* input =
      command->add_option("--input", flags->input, "plan these buffers: id,lower,upper,size")
          ->type_name("FILE.csv");
  for (CLI::Option* option : of_models) input->excludes(option);
  command->add_flag("--json", flags->json, "one JSON object instead of text");
  command->footer(
      "Models are planned for images of 28 by 28 in one channel and 10 classes. With\n"
      "--memory-limit a plan that is larger is a failure that names the largest batch that fits.\n"
      "\n"
      "Examples:\n"
      "  poolgrad plan --model cnn --batch 128 --threads 1\n"
      "  poolgrad plan --model cnn --batch 128 --svg arena.svg\n"
      "  poolgrad plan --input buffers.csv --json");
  command->callback([flags] { flags->input.empty() ? plan_model(*flags) : plan_file(*flags); });
}

}  // namespace poolgrad::cli

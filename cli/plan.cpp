// poolgrad plan: what training would take, without data and without training. The plan of buffers
// in a CSV file is in plan_requests.cpp.
#include <iostream>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/plan_requests.h"
#include "cli/tuning.h"
#include "cli/what_if.h"
#include "engine/report.h"
#include "engine/timeline_svg.h"
#include "interop/atomic_file.h"

namespace poolgrad::cli {
namespace {

struct Flags {
  PlanFlags plan;
  RequestFlags requests;
  WhatIfFlags what_if;
  std::string svg, entry = "train";
  bool json = false, full = false;
};

int plan_model(const Flags& flags) {
  train::TaskSpec spec = task_spec(flags.plan, {1, 28, 28}, 10);
  const auto columns = [](std::int64_t count) -> train::Columns {
    return {{{count, 28, 28}, DType::u8}, {{count}, DType::u8}};
  };
  spec.tables = {columns(60000), columns(10000)};  // their number changes no plan
  Options options = program_options(flags.plan);
  if (flags.what_if.asked()) {
    options.measure = false;
    if (options.tuning && options.tuning->size() == 0) {
      throw FileError(text("--tune: '", flags.plan.tune,
                           "' has no times, and questions take none; leave out the question once"));
    }
    const std::string subject = text("the ", flags.plan.model, " with ", flags.plan.optimizer);
    return answer_what_if(flags.what_if, {spec, options, subject, flags.svg, flags.json});
  }
  const train::Task task = train::make_task(spec);
  const Blueprint blueprint = train::draft_task(spec, task, options);
  save_tuning(flags.plan.tune, options);
  (void)blueprint.entry(flags.entry);  // throws where there is none
  if (!flags.svg.empty()) {
    interop::AtomicFile file(flags.svg);
    file.write(timeline_svg(blueprint, flags.entry));
    file.commit();
  }
  if (flags.json) {
    print_line(std::cout, plan_details(blueprint));
  } else {
    std::cout << tables(blueprint, flags.entry, flags.full ? 0 : 12);
    print_conditions(std::cout, blueprint);
  }
  return kSuccess;
}

}  // namespace

void add_plan(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("plan", "Print what training would take, without data");
  auto flags = std::make_shared<Flags>();
  std::vector<CLI::Option*> of_models = add_plan_flags(*command, flags->plan);
  command->add_option("--svg", flags->svg, "draw the arena over time, or the sweep")
      ->type_name("FILE.svg");
  of_models.push_back(
      command
          ->add_option("--entry", flags->entry, "of the tables and the picture: train or evaluate")
          ->capture_default_str()
          ->type_name("NAME"));
  of_models.push_back(
      command->add_flag("--full", flags->full, "every layer, and all that is alive at the peak"));
  const std::vector<CLI::Option*> questions = add_what_if_flags(*command, flags->what_if);
  of_models.insert(of_models.end(), questions.begin(), questions.end());
  CLI::Option* input = add_request_flags(*command, flags->requests);
  for (CLI::Option* option : of_models) input->excludes(option);
  command->add_flag("--json", flags->json, "one JSON object instead of text");
  command->footer(
      "Models are planned for images of 28 by 28 in one channel and 10 classes. With\n"
      "--memory-limit a plan that is larger is a failure that names the largest batch that fits.\n"
      "With --budget what the backward pass reads is computed again instead of kept, as far as\n"
      "needed: the same bits in less memory and more time. --budget 1 fails and names the\n"
      "smallest there is.\n"
      "--tune FILE plans with the kernels that train takes with it; what FILE lacks is timed and\n"
      "added. The questions --max-batch, --sweep and --smallest take no times: they plan by rules\n"
      "where FILE says nothing.\n"
      "Buffers are alive in [lower, upper), half-open; the columns alignment, at (a fixed offset,\n"
      "empty where any will do) and, for a team, member,first_phase,end_phase are optional. With\n"
      "--capacity the exit code is 3 when no plan is within it and 4 when none was found in time;\n"
      "the best one is written in every case.\n"
      "\n"
      "Examples:\n"
      "  poolgrad plan --model cnn --batch 128 --threads 1\n"
      "  poolgrad plan --model cnn --batch 128 --svg arena.svg\n"
      "  poolgrad plan --model resnet --blocks 3 --batch 128 --budget 64MiB\n"
      "  poolgrad plan --model resnet --max-batch 512MiB\n"
      "  poolgrad plan --model cnn --sweep batch=1..1024 --svg sweep.svg\n"
      "  poolgrad plan --input buffers.csv --output offsets.csv --capacity 64MiB");
  command->callback([flags, &exit_code] {
    exit_code = flags->requests.input.empty()
                    ? plan_model(*flags)
                    : plan_requests(flags->requests, flags->svg, flags->json);
  });
}

}  // namespace poolgrad::cli

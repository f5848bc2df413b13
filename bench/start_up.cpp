// How long until the first step is done? From make_task() on: task, draft, arena, one step on
// zeros. Neither starting the process nor reading data is in it.
#include <iostream>

#include <nlohmann/json.hpp>

#include "bench/workload.h"
#include "engine/program.h"

namespace poolgrad::bench {
namespace {

void measure(int argc, char** argv) {
  if (argc != 4) throw ArgumentError("usage: start_up MODEL BATCH THREADS");
  const std::int64_t batch = positive("batch", argv[2]);
  const Options options{.threads = positive("threads", argv[3])};
  const train::TaskSpec spec = spec_of(argv[1], batch);
  const Clock::time_point begin = Clock::now();
  const train::Task task = train::make_task(spec);
  Blueprint blueprint = draft(*task.graph, task.entries, options);
  const double draft_ms = 1e3 * seconds_since(begin);
  const std::size_t nodes = blueprint.entry("train").steps.size();
  Program program(std::move(blueprint));
  const double compile_ms = 1e3 * seconds_since(begin);
  program.run("train");
  std::cout << nlohmann::ordered_json{{"bench", "start_up"},
                                      {"model", argv[1]},
                                      {"batch", batch},
                                      {"nodes", nodes},
                                      {"draft_ms", draft_ms},
                                      {"compile_ms", compile_ms},
                                      {"first_step_ms", 1e3 * seconds_since(begin)}}
            << std::endl;
}

}  // namespace
}  // namespace poolgrad::bench

int main(int argc, char** argv) {
  return poolgrad::bench::run_bench(argc, argv, poolgrad::bench::measure);
}

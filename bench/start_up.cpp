// How long until the first step is done? One process, from main() on: task, draft, arena, one step
// on zeros. Reading data is not in it.
#include <chrono>
#include <iostream>

#include <nlohmann/json.hpp>

#include "bench/workload.h"
#include "engine/program.h"

namespace poolgrad::bench {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

void measure(int argc, char** argv) {
  if (argc != 4) throw ArgumentError("usage: start_up MODEL BATCH THREADS");
  const Clock::time_point begin = Clock::now();
  const std::int64_t batch = positive("batch", argv[2]);
  const train::Task task = train::make_task(spec_of(argv[1], batch));
  Blueprint blueprint = draft(*task.graph, task.entries, {.threads = positive("threads", argv[3])});
  const double draft_ms = milliseconds_since(begin);
  const std::size_t nodes = blueprint.entry("train").steps.size();
  Program program(std::move(blueprint));
  const double compile_ms = milliseconds_since(begin);
  program.run("train");
  std::cout << nlohmann::ordered_json{{"bench", "start_up"},
                                      {"model", argv[1]},
                                      {"batch", batch},
                                      {"nodes", nodes},
                                      {"draft_ms", draft_ms},
                                      {"compile_ms", compile_ms},
                                      {"first_step_ms", milliseconds_since(begin)}}
            << std::endl;
}

}  // namespace
}  // namespace poolgrad::bench

int main(int argc, char** argv) {
  return poolgrad::bench::run_bench(argc, argv, poolgrad::bench::measure);
}

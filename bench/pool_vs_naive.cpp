// What does a training step cost when its bytes are planned, pooled, or asked for one by one?
//
//   pool_vs_naive MODEL BATCH THREADS planned|planned_huge|pooled|direct [CHUNKS]
//   (CHUNKS 0, the default: as the sizes of activations suggest)
//
// One process is one side; run.py starts several, which take turns: for each line on standard input
// this measures one window and prints it as a JSON line. Facts about the side come first, what it
// has seen in all comes last. The allocator is whichever is preloaded: nothing here counts
// allocations, since a program that defines malloc would silently beat it.
#include <iostream>

#include <nlohmann/json.hpp>

#include "bench/workload.h"

using namespace poolgrad;
using Json = nlohmann::ordered_json;

namespace {

constexpr double kWindowSeconds = 0.25;
constexpr double kLeadInSeconds = 0.25;  // a team that slept while others ran finds its pace again
constexpr int kLossStep = 20;

struct Side {
  Memory memory = Memory::planned;
  bool huge_pages = false;
};

Side side_of(const std::string& name) {
  if (name == "planned_huge") return {Memory::planned, true};
  for (const Memory memory : {Memory::planned, Memory::pooled, Memory::direct}) {
    if (name == to_string(memory)) return {memory, false};
  }
  throw ArgumentError(text("pool_vs_naive: no memory '", name,
                           "'; there are planned, planned_huge, pooled, direct"));
}

void print(const Json& line) { std::cout << line.dump() << std::endl; }

/// Step 20's loss tells whether all sides did the same; the peak is measured over the same steps.
Json facts(bench::Training& training, const bench::ResidentPeak& resident) {
  Program& program = training.program();
  program.watch_peak();
  for (int i = 0; i < kLossStep; ++i) training.step();
  const float loss = training.loss();
  const std::size_t peak = program.measured_peak_bytes();
  // Not measured yet: caches, branch predictors and the allocator get used to it.
  (void)bench::window(training, kWindowSeconds);
  const Blueprint& blueprint = program.blueprint();
  return {{"loss_at_step_20", loss},
          {"peak_bytes", peak},
          {"predicted_peak_bytes", blueprint.predicted_peak_bytes()},
          {"lower_bound_bytes", blueprint.lower_bound_bytes()},
          {"sum_bytes", blueprint.sum_bytes()},
          {"persistent_bytes", blueprint.persistent_bytes},
          {"resident_bytes", resident.bytes()}};
}

void measure(int argc, char** argv) {
  if (argc < 5 || argc > 6)
    throw ArgumentError(
        "pool_vs_naive: give MODEL BATCH THREADS planned|planned_huge|pooled|direct [CHUNKS]");
  const train::TaskSpec spec = bench::spec_of(argv[1], bench::positive("BATCH", argv[2]));
  const Side side = side_of(argv[4]);
  memory::HostResource host;
  memory::HugePageResource huge;
  Options options{.memory = side.memory, .threads = bench::positive("THREADS", argv[3])};
  options.resource = side.huge_pages ? static_cast<memory::Resource*>(&huge) : &host;
  if (argc == 6 && std::string_view(argv[5]) != "0")
    options.chunks = bench::positive("CHUNKS", argv[5]);

  bench::Samples samples;
  const bench::ResidentPeak resident;
  bench::Training training(spec, options, samples);
  Json first = facts(training, resident);
  first["data"] = samples.name();
  print(first);
  for (std::string line; std::getline(std::cin, line);) {
    if (options.threads > 1) (void)bench::window(training, kLeadInSeconds);
    const bench::Window w = bench::window(training, kWindowSeconds);
    print({{"steps", w.steps},
           {"step_us", w.step_us},
           {"faults_per_step", w.faults_per_step},
           {"system_us_per_step", w.system_us_per_step},
           {"foreign_cpu", w.foreign_cpu}});
  }
}

}  // namespace

int main(int argc, char** argv) { return bench::run_bench(argc, argv, measure); }

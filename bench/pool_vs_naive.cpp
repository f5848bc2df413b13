// What does a training step cost when its bytes are planned, pooled, or asked for one by one?
//
//   pool_vs_naive MODEL BATCH THREADS planned|planned_huge|pooled|direct [CHUNKS]
//   (CHUNKS 0, the default: as the sizes of activations suggest)
//   pool_vs_naive MODEL BATCH 1 SIDE, on GPU 0, for a SIDE of device_sides.h
//
// One process is one side; run.py starts several, which take turns: for each line on standard input
// this measures one window and prints it as a JSON line. Facts about the side come first, what it
// has seen in all comes last. The allocator is whichever is preloaded: nothing here counts
// allocations, since a program that defines malloc would silently beat it.
#include <iostream>

#include <nlohmann/json.hpp>

#include "bench/device_sides.h"
#include "bench/workload.h"

using namespace poolgrad;
using Json = nlohmann::ordered_json;

namespace {

constexpr double kWindowSeconds = 0.25;
constexpr double kLeadInSeconds = 0.25;  // a team that slept while others ran finds its pace again

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

void measure_on_device(const std::string& model, int batch, const std::string& name) {
  const bench::DeviceSide side(name, bench::cuda_parts());
  bench::Samples samples;
  bench::serve(side, bench::spec_of(model, batch, /*on_device=*/true), samples, kWindowSeconds,
               std::cin, std::cout);
}

void measure(int argc, char** argv) {
  if (argc == 5 && bench::is_device_side(argv[4]))
    return measure_on_device(argv[1], bench::positive("BATCH", argv[2]), argv[4]);
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
  Json first = bench::facts(training, kWindowSeconds);
  first["resident_bytes"] = resident.bytes();
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

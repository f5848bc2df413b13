// What does a steady training step do besides computing? Page faults, context switches,
// allocations.
//
//   steady MODEL BATCH THREADS STEPS
//
// One JSON line of counts over STEPS steps after warming up. System calls are counted from outside:
// steady.py runs this under strace with STEPS and twice as many. This program counts allocations,
// so it must not be used for comparing allocators.
#include <iostream>

#include <nlohmann/json.hpp>

#include "bench/workload.h"
#include "memory/allocation_count.h"

using namespace poolgrad;
using Json = nlohmann::ordered_json;

namespace {

void measure(int argc, char** argv) {
  if (argc != 5) throw ArgumentError("steady: give MODEL BATCH THREADS STEPS");
  const int batch = bench::positive("BATCH", argv[2]),
            threads = bench::positive("THREADS", argv[3]),
            steps = bench::positive("STEPS", argv[4]);
  bench::Samples samples;
  // From files where there are any, as `poolgrad train` does.
  const bool files = samples.files() != nullptr;
  bench::Training training(bench::spec_of(argv[1], batch), {.threads = threads}, samples,
                           files ? bench::Source::files : bench::Source::ready);
  constexpr int kWarmSteps = 100;
  for (int i = 0; i < kWarmSteps; ++i) training.step();

  const rusage before = bench::usage();
  const std::size_t sleeps = training.program().sleeps();
  const memory::AllocationWindow window;
  for (int i = 0; i < steps; ++i) training.step();
  const memory::AllocationCounts counts = window.counts();
  const rusage after = bench::usage();
  const Json line{{"bench", "steady"},
                  {"model", argv[1]},
                  {"batch", batch},
                  {"threads", threads},
                  {"steps", steps},
                  {"source", files ? "files" : "ready"},
                  {"minor_faults", after.ru_minflt - before.ru_minflt},
                  {"major_faults", after.ru_majflt - before.ru_majflt},
                  {"voluntary_switches", after.ru_nvcsw - before.ru_nvcsw},
                  {"involuntary_switches", after.ru_nivcsw - before.ru_nivcsw},
                  {"long_waits", training.program().sleeps() - sleeps},
                  {"allocations_ours", memory::counting() ? Json(counts.ours) : Json()},
                  {"allocations_library", memory::counting() ? Json(counts.library) : Json()},
                  {"mmaps", memory::counting() ? Json(counts.mmaps) : Json()}};
  std::cout << line.dump() << '\n';
}

}  // namespace

int main(int argc, char** argv) { return bench::run_bench(argc, argv, measure); }

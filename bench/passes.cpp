// What does each pass do for memory? Arithmetic only: drafts with one pass more at a time. What
// PyTorch takes for the same step is in passes_torch.py.
#include <iostream>

#include <nlohmann/json.hpp>

#include "bench/workload.h"

namespace poolgrad::bench {
namespace {

struct Stage {
  const char* name;
  void (*add)(Options&);
};

/// In the order of the passes; each keeps what those before it switched on.
constexpr Stage kStages[]{
    {"none",
     [](Options& o) {
       o.fuse = o.fuse_updates = o.layout = o.recompute = o.schedule = o.in_place = o.order = false;
       o.chunks = 1;
     }},
    {"fuse", [](Options& o) { o.fuse = true; }},
    {"fuse_updates", [](Options& o) { o.fuse_updates = true; }},
    {"layout", [](Options& o) { o.layout = true; }},
    {"recompute", [](Options& o) { o.recompute = true; }},
    {"schedule", [](Options& o) { o.schedule = true; }},
    {"split", [](Options& o) { o.chunks = 0; }},
    {"in_place", [](Options& o) { o.in_place = true; }},
    {"order", [](Options& o) { o.order = true; }},
};

void print(const std::string& model, std::int64_t batch) {
  train::TaskSpec spec = spec_of(model, batch);
  spec.optimizer = train::Sgd{.rate = 0.05F, .momentum = 0.9F};  // of all models, as PyTorch's
  const train::Task task = train::make_task(spec);
  Options options;
  for (const Stage& stage : kStages) {
    stage.add(options);
    const Blueprint blueprint = draft(*task.graph, task.entries, options);
    const std::size_t beside = blueprint.column_bytes("parameters") +
                               blueprint.column_bytes("momentum") +
                               blueprint.column_bytes("inputs");
    std::cout << nlohmann::ordered_json{{"bench", "passes"},
                                        {"model", model},
                                        {"batch", batch},
                                        {"up_to", stage.name},
                                        {"sum_bytes", blueprint.sum_bytes() - beside},
                                        {"lower_bound_bytes",
                                         blueprint.lower_bound_bytes() - beside},
                                        {"arena_bytes", blueprint.arena_bytes() - beside},
                                        {"beside_bytes", beside}}
              << std::endl;
  }
}

void measure(int argc, char** argv) {
  if (argc != 3) throw ArgumentError("usage: passes MODEL BATCH");
  print(argv[1], positive("batch", argv[2]));
}

}  // namespace
}  // namespace poolgrad::bench

int main(int argc, char** argv) {
  return poolgrad::bench::run_bench(argc, argv, poolgrad::bench::measure);
}

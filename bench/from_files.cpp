// What does it cost to train from files? Steps that gather their batches out of all bytes, against
// steps that find them ready.
//
//   from_files MODEL BATCH THREADS
//
// One JSON line. Both take turns, each after a pause in which its team finds its pace again.
#include <algorithm>
#include <iostream>
#include <iterator>

#include <nlohmann/json.hpp>

#include "bench/workload.h"
#include "engine/profile.h"

using namespace poolgrad;
using Json = nlohmann::ordered_json;

namespace {

constexpr int kTurns = 9, kEnough = 5;  // windows of each; quiet pairs, with fewer all count
constexpr double kWindowSeconds = 0.25;
constexpr int kWarmSteps = 20, kTimedSteps = 200;

struct Side {
  bench::Training training;
  std::vector<bench::Window> windows{};

  void turn() {
    (void)bench::window(training, bench::kLeadInSeconds);
    windows.push_back(bench::window(training, kWindowSeconds));
  }
  [[nodiscard]] double step_us() const { return bench::step_us(windows, 0.5); }
  [[nodiscard]] std::size_t phases() const { return training.entry().edges.size(); }
};

/// Drops the turns in which others disturbed one of the two, where enough are left.
bool keep_quiet(Side& ready, Side& files) {
  std::vector<bench::Window> a, b;
  for (std::size_t i = 0; i < ready.windows.size(); ++i) {
    if (!ready.windows[i].quiet() || !files.windows[i].quiet()) continue;
    a.push_back(ready.windows[i]);
    b.push_back(files.windows[i]);
  }
  if (std::ssize(a) < kEnough) return false;
  ready.windows = a;
  files.windows = b;
  return true;
}

/// The time that the nodes which gather take, of all members together.
double gather_us(bench::Training& training) {
  const Entry& entry = training.entry();
  const std::vector<double> times = time_steps(entry, kTimedSteps, [&](const Observer& observer) {
                                      training.step(&observer);
                                    }).median_node_us();
  double sum = 0.0;
  for (std::size_t i = 0; i < times.size(); ++i) {
    const Step& step = entry.steps[i];
    if (entry.graph->nodes[static_cast<std::size_t>(step.node)].op->name == "gather")
      sum += times[i];
  }
  return sum;
}

void measure(int argc, char** argv) {
  if (argc != 4) throw ArgumentError("from_files: give MODEL BATCH THREADS");
  const int batch = bench::positive("BATCH", argv[2]);
  const Options options{.threads = bench::positive("THREADS", argv[3])};
  const train::TaskSpec spec = bench::spec_of(argv[1], batch);
  bench::Samples samples;
  Side ready{{spec, options, samples}};
  Side files{{spec, options, samples, bench::Source::files}};
  for (int i = 0; i < kWarmSteps; ++i) ready.training.step(), files.training.step();
  for (int turn = 0; turn < kTurns; ++turn) ready.turn(), files.turn();
  const bool quiet = keep_quiet(ready, files);
  const Json line{{"bench", "from_files"},
                  {"model", argv[1]},
                  {"batch", batch},
                  {"threads", options.threads},
                  {"quiet", quiet},
                  {"ready_us", ready.step_us()},
                  {"files_us", files.step_us()},
                  {"rate", ready.step_us() / files.step_us()},
                  {"gather_us", gather_us(files.training)},
                  {"phases", {ready.phases(), files.phases()}}};
  std::cout << line.dump() << '\n';
}

}  // namespace

int main(int argc, char** argv) { return bench::run_bench(argc, argv, measure); }

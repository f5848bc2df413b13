// How long does a training step take, split among members and chunks, and which ops take it?
//
//   step_time MODEL BATCH THREADS CHUNKS [briefly|tuned]
//   (CHUNKS 0: as the sizes of activations suggest; briefly: nothing but the step, in seconds;
//   tuned: in turns with the same step whose kernels are chosen by times taken just before)
//
// One JSON line. Where Fashion-MNIST is installed, steps that gather their batches from its files'
// bytes take turns with those that find them ready. Comparing memory modes is pool_vs_naive.cpp.
#include <algorithm>
#include <iostream>
#include <iterator>
#include <map>
#include <optional>
#include <tuple>

#include <nlohmann/json.hpp>

#include "bench/workload.h"
#include "engine/profile.h"
#include "engine/tuning.h"

using namespace poolgrad;
using Json = nlohmann::ordered_json;

namespace {

constexpr int kEnough = 5;  // quiet windows; with fewer, all count
constexpr double kWindowSeconds = 0.25;
constexpr int kLossStep = 20, kBriefWarmSteps = 2;

struct Effort {
  int quiet, most;  // windows
};
constexpr Effort kThorough{9, 27}, kBrief{kEnough, 8};

/// The quiet windows where there are five, else all of them.
std::vector<bench::Window> used(const std::vector<bench::Window>& all) {
  std::vector<bench::Window> quiet;
  std::ranges::copy_if(all, std::back_inserter(quiet), &bench::Window::quiet);
  return std::ssize(quiet) >= kEnough ? quiet : all;
}

/// Windows of all trainings in turn, until each has enough quiet ones.
std::vector<std::vector<bench::Window>> windows(const std::vector<bench::Training*>& trainings,
                                                Effort effort) {
  std::vector<std::vector<bench::Window>> all(trainings.size());
  for (int turn = 0, quiet = 0; turn < effort.most && quiet < effort.quiet; ++turn) {
    bool disturbed = false;
    for (std::size_t i = 0; i < trainings.size(); ++i) {
      if (trainings.size() > 1)  // a team that slept while others ran finds its pace again
        (void)bench::window(*trainings[i], bench::kLeadInSeconds);
      all[i].push_back(bench::window(*trainings[i], kWindowSeconds));
      disturbed = disturbed || !all[i].back().quiet();
    }
    quiet += disturbed ? 0 : 1;
  }
  for (auto& list : all) list = used(list);
  return all;
}

/// Microseconds by member, phase, op and the shapes of its outputs, slowest first.
Json profile(bench::Training& training, double step_us) {
  struct Row {
    std::string op, outputs;
    int member = 0, phase = 0, calls = 0;
    double us = 0.0;
  };
  const Entry& entry = training.entry();
  const int steps = std::clamp(static_cast<int>(0.5e6 / step_us), 10, 2000);
  const std::vector<double> times = time_steps(entry, steps, [&](const Observer& observer) {
                                      training.step(&observer);
                                    }).median_node_us();
  std::map<std::tuple<int, int, std::string>, Row> rows;
  for (std::size_t i = 0; i < times.size(); ++i) {
    const Step& step = entry.steps[i];
    const Node& node = entry.graph->nodes[static_cast<std::size_t>(step.node)];
    const std::string outputs = bench::shapes_of(entry.graph->specs(node.outputs));
    const std::string op(node.op->name);
    Row& row = rows[{step.member, step.phase, op + outputs}];
    row = {op, outputs, step.member, step.phase, row.calls + 1, row.us + times[i]};
  }
  std::vector<Row> sorted;
  for (const auto& [key, row] : rows) sorted.push_back(row);
  std::ranges::sort(sorted, std::greater{}, &Row::us);
  Json result = Json::array();
  for (const Row& row : sorted) {
    result.push_back({{"op", row.op},
                      {"outputs", row.outputs},
                      {"member", row.member},
                      {"phase", row.phase},
                      {"us", row.us},
                      {"calls", row.calls}});
  }
  return result;
}

/// The median among `windows`, and what it stands on.
Json step_time(const std::vector<bench::Window>& windows) {
  return {
      {"windows", windows.size()},
      {"quiet", std::ranges::all_of(windows, &bench::Window::quiet)},
      {"step_us_p10_p50_p90",
       {bench::step_us(windows, 0.1), bench::step_us(windows, 0.5), bench::step_us(windows, 0.9)}}};
}

Json briefly(bench::Training& training) {
  for (int i = 0; i < kBriefWarmSteps; ++i) training.step();
  (void)bench::window(training, bench::kLeadInSeconds);
  return step_time(windows({&training}, kBrief)[0]);
}

Json beside_tuned(bench::Training& training, const train::TaskSpec& spec, Options options,
                  bench::Samples& samples) {
  options.tuning = std::make_shared<Tuning>();
  bench::Training tuned(spec, options, samples);
  const auto all = windows({&training, &tuned}, kBrief);
  Json result = step_time(all[0]);
  result.update({{"tuned_us", bench::step_us(all[1], 0.5)},
                 {"timing_seconds", options.tuning->spent.seconds},
                 {"table", options.tuning->text()}});
  return result;
}

Json thoroughly(bench::Training& training, const train::TaskSpec& spec, const Options& options,
                bench::Samples& samples) {
  for (int i = 0; i < kLossStep; ++i) training.step();
  const float loss = training.loss();
  std::optional<bench::Training> from_files;
  std::vector<bench::Training*> both{&training};
  if (samples.files() != nullptr) {
    from_files.emplace(spec, options, samples, bench::Source::files);
    both.push_back(&*from_files);
  }
  const auto all = windows(both, kThorough);
  const Entry& entry = training.entry();
  Json result = step_time(all[0]);
  result.update({{"from_files_us", from_files ? Json(bench::step_us(all[1], 0.5)) : Json()},
                 {"loss_at_step_20", loss},
                 {"steps", entry.steps.size()},
                 {"kernels", entry.kernels},
                 {"phases", entry.edges.size()},
                 {"persistent_bytes", training.program().blueprint().persistent_bytes},
                 {"scratch_bytes", entry.plan.arena_bytes},
                 {"scratch_lower_bound_bytes", entry.plan.lower_bound_bytes},
                 {"profile", profile(training, bench::step_us(all[0], 0.5))}});
  return result;
}

void measure(int argc, char** argv) {
  const std::string_view how = argc == 6 ? argv[5] : "";
  if (argc != 5 && how != "briefly" && how != "tuned")
    throw ArgumentError("step_time: give MODEL BATCH THREADS CHUNKS [briefly|tuned]");
  const int batch = bench::positive("BATCH", argv[2]);
  Options options{.threads = bench::positive("THREADS", argv[3])};
  if (std::string_view(argv[4]) != "0") options.chunks = bench::positive("CHUNKS", argv[4]);
  const train::TaskSpec spec = bench::spec_of(argv[1], batch);

  bench::Samples samples;
  const bench::Clock::time_point begin = bench::Clock::now();
  bench::Training training(spec, options, samples);
  Json line{{"bench", "step_time"},
            {"model", argv[1]},
            {"batch", batch},
            {"threads", options.threads},
            {"chunks", options.chunks},
            {"data", samples.name()},
            {"set_up_ms", 1e3 * bench::seconds_since(begin)}};
  line.update(how == "briefly" ? briefly(training)
              : how == "tuned" ? beside_tuned(training, spec, options, samples)
                               : thoroughly(training, spec, options, samples));
  std::cout << line.dump() << '\n';
}

}  // namespace

int main(int argc, char** argv) { return bench::run_bench(argc, argv, measure); }

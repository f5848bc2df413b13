// How long does a training step take, split among members and chunks, and which ops take it?
//
//   step_time MODEL BATCH THREADS CHUNKS     (CHUNKS 0: as the sizes of activations suggest)
//
// One JSON line. Where Fashion-MNIST is installed, steps that gather their batches from its files'
// bytes take turns with those that find them ready. Comparing memory modes is pool_vs_naive.cpp.
#include <algorithm>
#include <chrono>
#include <iostream>
#include <iterator>
#include <map>
#include <optional>
#include <tuple>

#include <nlohmann/json.hpp>

#include "bench/workload.h"
#include "engine/profile.h"

using namespace poolgrad;
using Json = nlohmann::ordered_json;

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kWindows = 9, kMostWindows = 27;
constexpr std::size_t kEnough = 5;  // quiet windows; with fewer, all count
constexpr double kWindowSeconds = 0.25, kQuiet = 0.04;
constexpr double kLeadInSeconds = 0.5;  // longer than a team that was disturbed stays away (pace.h)
constexpr int kLossStep = 20;

/// Windows in ascending order of time: the quiet ones where there are five, else all of them.
std::vector<bench::Window> used(const std::vector<bench::Window>& all) {
  std::vector<bench::Window> quiet;
  std::ranges::copy_if(all, std::back_inserter(quiet),
                       [](const bench::Window& w) { return w.foreign_cpu < kQuiet; });
  std::vector<bench::Window> result = quiet.size() >= kEnough ? quiet : all;
  std::ranges::sort(result, {}, &bench::Window::step_us);
  return result;
}

/// Windows of all trainings in turn, until each has enough quiet ones.
std::vector<std::vector<bench::Window>> windows(const std::vector<bench::Training*>& trainings) {
  std::vector<std::vector<bench::Window>> all(trainings.size());
  for (int turn = 0, quiet = 0; turn < kMostWindows && quiet < kWindows; ++turn) {
    bool disturbed = false;
    for (std::size_t i = 0; i < trainings.size(); ++i) {
      if (trainings.size() > 1)  // a team that slept while others ran finds its pace again
        (void)bench::window(*trainings[i], kLeadInSeconds);
      all[i].push_back(bench::window(*trainings[i], kWindowSeconds));
      disturbed = disturbed || all[i].back().foreign_cpu >= kQuiet;
    }
    quiet += disturbed ? 0 : 1;
  }
  for (auto& list : all) list = used(list);
  return all;
}

double quantile(const std::vector<bench::Window>& sorted, double q) {
  return sorted[static_cast<std::size_t>(q * static_cast<double>(sorted.size() - 1) + 0.5)].step_us;
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
    std::string outputs;
    for (const Spec& spec : entry.graph->specs(node.outputs))
      outputs += (outputs.empty() ? "" : " ") + to_string(spec.shape);
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

void measure(int argc, char** argv) {
  if (argc != 5) throw ArgumentError("step_time: give MODEL BATCH THREADS CHUNKS");
  const std::string model = argv[1];
  const int batch = bench::positive("BATCH", argv[2]),
            threads = bench::positive("THREADS", argv[3]);
  Options options{.threads = threads};
  if (std::string_view(argv[4]) != "0") options.chunks = bench::positive("CHUNKS", argv[4]);

  bench::Samples samples;
  const Clock::time_point begin = Clock::now();
  bench::Training training(bench::spec_of(model, batch), options, samples);
  const double set_up_ms = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  for (int i = 0; i < kLossStep; ++i) training.step();
  const float loss = training.loss();
  std::optional<bench::Training> from_files;
  std::vector<bench::Training*> both{&training};
  if (samples.files() != nullptr) {
    from_files.emplace(bench::spec_of(model, batch), options, samples, bench::Source::files);
    both.push_back(&*from_files);
  }
  const auto all = windows(both);
  const std::vector<bench::Window>& measured = all[0];
  const double median = quantile(measured, 0.5);

  const Entry& entry = training.entry();
  const Blueprint& blueprint = training.program().blueprint();
  const Json line{
      {"bench", "step_time"},
      {"model", model},
      {"batch", batch},
      {"threads", threads},
      {"chunks", options.chunks},
      {"windows", measured.size()},
      {"quiet", std::ranges::all_of(measured, [](auto& w) { return w.foreign_cpu < kQuiet; })},
      {"step_us_p10_p50_p90", {quantile(measured, 0.1), median, quantile(measured, 0.9)}},
      {"from_files_us", from_files ? Json(quantile(all[1], 0.5)) : Json()},
      {"loss_at_step_20", loss},
      {"steps", entry.steps.size()},
      {"kernels", entry.kernels},
      {"phases", entry.edges.size()},
      {"persistent_bytes", blueprint.persistent_bytes},
      {"scratch_bytes", entry.plan.arena_bytes},
      {"scratch_lower_bound_bytes", entry.plan.lower_bound_bytes},
      {"set_up_ms", set_up_ms},
      {"data", samples.name()},
      {"profile", profile(training, median)}};
  std::cout << line.dump() << '\n';
}

}  // namespace

int main(int argc, char** argv) { return bench::run_bench(argc, argv, measure); }

// What does the engine itself cost? A step of tiny nodes against a plain loop over the same kernels
// on the same operands, and a team's dispatch and meeting.
//
//   overhead THREADS
//
// One JSON line, in nanoseconds. What a real step takes besides its kernels is in limits.cpp.
#include <algorithm>
#include <iostream>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/workload.h"
#include "engine/ops.h"
#include "engine/runner.h"
#include "engine/team.h"

using namespace poolgrad;
using Json = nlohmann::ordered_json;

namespace {

constexpr int kNodes = 1000;  // of all members together
constexpr int kTurns = 201, kMeetings = 1000;

template <typename F>
double nanoseconds(const F& work) {
  const bench::Clock::time_point begin = bench::Clock::now();
  work();
  return 1e9 * bench::seconds_since(begin);
}

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + kTurns / 2);
  return values[kTurns / 2];
}

/// A chain of ReLUs of 16 values.
std::vector<Tensor> chain(Graph& graph) {
  Tensor x = graph.input({{1, 16}}, "x");
  for (int i = 0; i < kNodes; ++i) x = relu(x);
  return {x};
}

/// Of a node: in a step, which one thread runs, and in a plain loop; they take turns.
Json of_nodes(int threads) {
  Graph graph;
  Program program = compile(graph, {{"run", chain(graph)}}, {.threads = threads});
  program.use_team(false);
  const Entry& entry = program.blueprint().entry("run");
  Bindings bindings(entry, threads);
  for (int s = 0; s < static_cast<int>(entry.storages.all.size()); ++s) {
    if (void* data = program.address(entry, s)) bindings.bind(s, data);
  }
  struct Call {
    const Kernel* kernel;
    Args args;
  };
  std::vector<Call> calls;
  for (std::size_t i = 0; i < entry.steps.size(); ++i)
    calls.push_back({entry.steps[i].kernel.get(), bindings.args[i]});
  std::vector<double> steps, loops;
  for (int turn = 0; turn < kTurns; ++turn) {
    steps.push_back(nanoseconds([&] { program.run("run"); }));
    loops.push_back(nanoseconds([&] {
      for (const Call& call : calls) call.kernel->run(call.args);
    }));
  }
  const auto nodes = static_cast<double>(entry.steps.size());
  const double step = median(steps) / nodes, loop = median(loops) / nodes;
  return {{"nodes", entry.steps.size()},
          {"step_ns", step},
          {"loop_ns", loop},
          {"engine_ns", step - loop}};
}

/// A run of nothing that a program is asked for: names, feeds, who runs it.
double of_run(int threads) {
  Graph graph;
  const Tensor y = relu(graph.input({{1, 16}}, "x"));
  Program program = compile(graph, {{"run", {y}}}, {.threads = threads});
  program.use_team(false);
  std::vector<double> runs;
  for (int turn = 0; turn < kTurns; ++turn)
    runs.push_back(nanoseconds([&] { program.run("run"); }));
  return median(runs);
}

Json of_team(int threads) {
  Team team(threads);
  std::vector<double> dispatches, meetings;
  auto nothing = [](int) {};
  auto meet = [&](int) {
    for (int i = 0; i < kMeetings; ++i) team.meet();
  };
  for (int turn = 0; turn < kTurns; ++turn) {
    dispatches.push_back(nanoseconds([&] { team.run(nothing); }));
    meetings.push_back(nanoseconds([&] { team.run(meet); }) / kMeetings);
  }
  return {{"dispatch_ns", median(dispatches)}, {"meeting_ns", median(meetings)}};
}

void measure(int argc, char** argv) {
  if (argc != 2) throw ArgumentError("overhead: give THREADS");
  const int threads = bench::positive("THREADS", argv[1]);
  Json line{{"bench", "overhead"}, {"threads", threads}};
  line.update(of_nodes(threads));
  line["run_ns"] = of_run(threads);
  line.update(of_team(threads));
  std::cout << line.dump() << '\n';
}

}  // namespace

int main(int argc, char** argv) { return bench::run_bench(argc, argv, measure); }

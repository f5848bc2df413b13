// How near is a training step to the sum of its kernels, each run alone on warm buffers?
//
//   limits MODEL BATCH THREADS
//
// One JSON line: the step; the same if every kernel took what it takes alone; and both by op. What
// the machine could do at most is roofline.cpp.
#include <algorithm>
#include <cstring>
#include <iostream>
#include <map>

#include <nlohmann/json.hpp>

#include "bench/workload.h"
#include "engine/cost.h"
#include "engine/profile.h"
#include "engine/runner.h"

using namespace poolgrad;
using Json = nlohmann::ordered_json;

namespace {

constexpr int kWarmSteps = 20, kWindows = 9;
constexpr double kWindowSeconds = 0.25;

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

std::size_t index_of(const Entry& entry, const Step& step) {
  return static_cast<std::size_t>(&step - entry.steps.data());
}

// --- times ---------------------------------------------------------------------------------------

/// Runs each kernel again and again right after its turn in a step, when its inputs are right and
/// all its buffers are warm. Its outputs are put back each time, so that training goes on unharmed.
class Alone {
 public:
  explicit Alone(bench::Training& training)
      : training_(training),
        bindings_(training.entry(), training.program().blueprint().options.threads),
        times_(training.entry().steps.size()) {}

  std::vector<double> times() {
    const Observer observer{
        .before =
            [this](const Entry& entry, const Step& s) {
              if (index_of(entry, s) == 0) bind(entry);  // a feed may lie elsewhere now
            },
        .after = [this](const Entry& entry, const Step& s) { repeat(entry, s); }};
    training_.program().use_team(false);
    for (int i = 0; i < kSteps; ++i) training_.step(&observer);
    training_.program().use_team(true);
    std::vector<double> medians;
    for (const std::vector<double>& all : times_) medians.push_back(median(all));
    return medians;
  }

 private:
  static constexpr int kSteps = 3, kBlocks = 5;
  static constexpr double kBlockMicroseconds = 50.0;  // much more than a clock's own time

  void bind(const Entry& entry) {
    for (int s = 0; s < static_cast<int>(entry.storages.all.size()); ++s) {
      if (void* data = training_.program().address(entry, s)) bindings_.bind(s, data);
    }
  }

  void repeat(const Entry& entry, const Step& step) {
    const std::size_t i = index_of(entry, step);
    const Args& args = bindings_.args[i];
    const std::vector<std::vector<std::byte>> outputs = saved(entry, step, args);
    const auto block = [&](int runs) {
      const bench::Clock::time_point begin = bench::Clock::now();
      for (int k = 0; k < runs; ++k) step.kernel->run(args);
      return 1e6 * bench::seconds_since(begin) / runs;
    };
    const int runs = std::clamp(static_cast<int>(kBlockMicroseconds / block(1)), 1, 1000);
    for (int k = 0; k < kBlocks; ++k) times_[i].push_back(block(runs));
    for (std::size_t k = 0; k < outputs.size(); ++k)
      std::memcpy(args.outputs[k], outputs[k].data(), outputs[k].size());
  }

  static std::vector<std::vector<std::byte>> saved(const Entry& entry, const Step& step,
                                                   const Args& args) {
    std::vector<std::vector<std::byte>> copies;
    const Node& node = entry.graph->nodes[static_cast<std::size_t>(step.node)];
    for (const Spec& spec : entry.graph->specs(node.outputs)) {
      const auto* from = static_cast<const std::byte*>(args.outputs[copies.size()]);
      copies.emplace_back(from, from + spec.bytes());
    }
    return copies;
  }

  bench::Training& training_;
  Bindings bindings_;
  std::vector<std::vector<double>> times_;
};

/// The step if nothing but the kernels took time: in each phase its busiest member.
double longest_path(const Entry& entry, const std::vector<double>& times, int members) {
  std::vector<std::vector<double>> busy(entry.edges.size(),
                                        std::vector<double>(static_cast<std::size_t>(members)));
  for (std::size_t i = 0; i < times.size(); ++i) {
    const Step& step = entry.steps[i];
    busy[static_cast<std::size_t>(step.phase)][static_cast<std::size_t>(step.member)] += times[i];
  }
  double sum = 0.0;
  for (const auto& phase : busy) sum += std::ranges::max(phase);
  return sum;
}

// --- work ----------------------------------------------------------------------------------------

struct Row {
  std::string op, shapes;
  int calls = 0;
  double in_step_us = 0.0, alone_us = 0.0;  // of all members together
  double flops = 0.0;                       // of plain sums (OpDef::flops): tiles do fewer
  double bytes = 0.0;
};

/// By op and shapes, the slowest first.
std::vector<Row> rows(const Entry& entry, const std::vector<double>& in_step,
                      const std::vector<double>& alone) {
  std::map<std::pair<std::string, std::string>, Row> grouped;
  for (std::size_t i = 0; i < entry.steps.size(); ++i) {
    const Node& node = entry.graph->nodes[static_cast<std::size_t>(entry.steps[i].node)];
    const std::vector<Spec> inputs = entry.graph->specs(node.inputs);
    const std::vector<Spec> outputs = entry.graph->specs(node.outputs);
    const std::string op(node.op->name);
    const std::string shapes = bench::shapes_of(inputs) + " -> " + bench::shapes_of(outputs);
    Row& row = grouped[{op, shapes}];
    row.op = op;
    row.shapes = shapes;
    ++row.calls;
    row.in_step_us += in_step[i];
    row.alone_us += alone[i];
    const Work work = work_of(*entry.graph, node);
    row.flops += work.flops;
    row.bytes += work.bytes;
  }
  std::vector<Row> result;
  for (const auto& [key, row] : grouped) result.push_back(row);
  std::ranges::sort(result, std::greater{}, &Row::in_step_us);
  return result;
}

Json json_of(const std::vector<Row>& all) {
  double sum = 0.0;
  for (const Row& row : all) sum += row.in_step_us;
  Json result = Json::array();
  for (const Row& row : all) {
    Json line{{"op", row.op},         {"shapes", row.shapes},     {"calls", row.calls},
              {"us", row.in_step_us}, {"alone_us", row.alone_us}, {"share", row.in_step_us / sum}};
    if (row.flops > 0.0) {
      line["gflops"] = row.flops / row.in_step_us * 1e-3;
    } else {
      line["gbs"] = row.bytes / row.in_step_us * 1e-3;
    }
    result.push_back(line);
  }
  return result;
}

void measure(int argc, char** argv) {
  if (argc != 4) throw ArgumentError("limits: give MODEL BATCH THREADS");
  const int batch = bench::positive("BATCH", argv[2]),
            threads = bench::positive("THREADS", argv[3]);
  bench::Samples samples;
  bench::Training training(bench::spec_of(argv[1], batch), {.threads = threads}, samples);
  for (int i = 0; i < kWarmSteps; ++i) training.step();
  std::vector<double> times;
  double foreign = 0.0;
  for (int i = 0; i < kWindows; ++i) {
    const bench::Window window = bench::window(training, kWindowSeconds);
    times.push_back(window.step_us);
    foreign += window.foreign_cpu / kWindows;
  }
  const double step_us = median(times);

  const Entry& entry = training.entry();
  const int timed = std::clamp(static_cast<int>(1e6 / step_us), 10, 5000);
  const std::vector<double> in_step = time_steps(entry, timed, [&](const Observer& observer) {
                                        training.step(&observer);
                                      }).median_node_us();
  const std::vector<double> alone = Alone(training).times();
  const std::vector<Row> by_op = rows(entry, in_step, alone);
  double flops = 0.0;
  for (const Row& row : by_op) flops += row.flops;
  const Json line{{"bench", "limits"},
                  {"model", argv[1]},
                  {"batch", batch},
                  {"threads", threads},
                  {"step_us", step_us},
                  {"kernels_us", longest_path(entry, in_step, threads)},
                  {"kernels_alone_us", longest_path(entry, alone, threads)},
                  {"nodes", entry.steps.size()},
                  {"phases", entry.edges.size()},
                  {"gflop", flops * 1e-9},
                  {"foreign_cpu", foreign},
                  {"quiet", foreign < bench::kQuiet},
                  {"ops", json_of(by_op)}};
  std::cout << line.dump() << '\n';
}

}  // namespace

int main(int argc, char** argv) { return bench::run_bench(argc, argv, measure); }

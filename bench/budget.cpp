// What does a smaller memory budget cost? Programs of one model between no budget and the smallest
// feasible one, in turns.
//
//   budget MODEL BATCH THREADS POINTS
//
// One JSON line. Losses of the first steps are compared bit by bit with those without a budget.
#include <algorithm>
#include <cstring>
#include <iostream>
#include <memory>

#include <nlohmann/json.hpp>

#include "bench/workload.h"

using namespace poolgrad;
using Json = nlohmann::ordered_json;

namespace {

constexpr int kRounds = 9, kLosses = 10;
constexpr double kWindowSeconds = 0.25;

/// The arenas of all programs there are: each is what a budget of a byte less than the last gives.
std::vector<std::size_t> arenas(const train::TaskSpec& spec, Options options) {
  const train::Task task = train::make_task(spec);
  std::vector<std::size_t> result;
  try {
    while (true) {
      result.push_back(draft(*task.graph, task.entries, options).arena_bytes());
      options.budget_bytes = result.back() - 1;
    }
  } catch (const MemoryError&) {
    return result;
  }
}

/// The first, the last, and those nearest to an even spacing in between.
std::vector<std::size_t> spread(const std::vector<std::size_t>& all, int count) {
  std::vector<std::size_t> result;
  for (int i = 0; i < count; ++i) {
    const double wish = static_cast<double>(all.front()) -
                        static_cast<double>(all.front() - all.back()) * i / (count - 1);
    const std::size_t nearest = *std::ranges::min_element(
        all, {}, [&](std::size_t bytes) { return std::abs(static_cast<double>(bytes) - wish); });
    if (result.empty() || nearest != result.back()) result.push_back(nearest);
  }
  return result;
}

struct Side {
  std::unique_ptr<bench::Training> training;
  std::vector<float> losses{};
  std::vector<bench::Window> windows{};

  [[nodiscard]] double step_us(double q) const { return bench::step_us(windows, q); }
};

Json point(Side& side, Side& plain) {
  const Blueprint& blueprint = side.training->program().blueprint();
  const bool same =
      std::memcmp(side.losses.data(), plain.losses.data(), kLosses * sizeof(float)) == 0;
  return {{"arena_bytes", blueprint.arena_bytes()},
          {"made_again", side.training->entry().made_again},
          {"modelled_extra_time", side.training->entry().extra_time},
          {"step_us_p10_p50_p90", {side.step_us(0.1), side.step_us(0.5), side.step_us(0.9)}},
          {"same_losses", same},
          {"quiet", std::ranges::all_of(side.windows, &bench::Window::quiet)}};
}

void measure(int argc, char** argv) {
  if (argc != 5) throw ArgumentError("budget: give MODEL BATCH THREADS POINTS");
  const std::string model = argv[1];
  const int batch = bench::positive("BATCH", argv[2]);
  Options options{.threads = bench::positive("THREADS", argv[3])};
  const int points = std::max(2, bench::positive("POINTS", argv[4]));
  const train::TaskSpec spec = bench::spec_of(model, batch);
  const std::vector<std::size_t> all = arenas(spec, options);

  bench::Samples samples;
  std::vector<Side> sides;
  for (const std::size_t bytes : spread(all, points)) {
    options.budget_bytes = bytes;
    sides.push_back({std::make_unique<bench::Training>(spec, options, samples)});
    for (int i = 0; i < kLosses; ++i) {
      sides.back().training->step();
      sides.back().losses.push_back(sides.back().training->loss());
    }
  }
  for (int round = 0; round < kRounds; ++round) {
    for (Side& side : sides) {
      if (options.threads > 1) (void)window(*side.training, bench::kLeadInSeconds);
      side.windows.push_back(window(*side.training, kWindowSeconds));
    }
  }
  Json line{{"bench", "budget"},          {"model", model},         {"batch", batch},
            {"threads", options.threads}, {"data", samples.name()}, {"programs", all.size()},
            {"points", Json::array()}};
  for (Side& side : sides) line["points"].push_back(point(side, sides.front()));
  std::cout << line.dump() << '\n';
}

}  // namespace

int main(int argc, char** argv) { return bench::run_bench(argc, argv, measure); }

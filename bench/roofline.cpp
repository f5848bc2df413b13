// What can this machine do at most? Products of square matrices by the engine's own kernels, and
// memory read and written in order.
//
//   roofline THREADS
//
// One JSON line: the best rates seen.
#include <algorithm>
#include <iostream>

#include <nlohmann/json.hpp>

#include "bench/workload.h"
#include "engine/ops.h"
#include "engine/team.h"

using namespace poolgrad;
using Json = nlohmann::ordered_json;

namespace {

using bench::Clock, bench::seconds_since;

/// The shortest of many calls, in seconds.
template <typename F>
double best_time(const F& work) {
  constexpr double kSeconds = 1.0;
  constexpr int kFewest = 5;
  double best = 1e9;
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < kFewest || seconds_since(begin) < kSeconds; ++i) {
    const Clock::time_point started = Clock::now();
    work();
    best = std::min(best, seconds_since(started));
  }
  return best;
}

/// Operations per nanosecond in [size, size] · [size, size].
double product_rate(std::int64_t size, int threads) {
  Graph graph;
  const auto matrix = [&](const char* name) {
    return graph.state({{size, size}}, Init::constant(1.0F), name, "operands");
  };
  const Tensor result = matmul(matrix("left"), matrix("right"));
  Program program = compile(graph, {{"product", {result}}}, {.threads = threads});
  const auto n = static_cast<double>(size);
  return 2.0 * n * n * n / best_time([&] { program.run("product"); }) * 1e-9;
}

/// Bytes per nanosecond in a = b + c on arrays that no cache holds; what a write reads first is not
/// counted.
double memory_rate(int threads) {
  constexpr std::size_t kValues = std::size_t{32} << 20U;
  std::vector<float> a(kValues), b(kValues, 1.0F), c(kValues, 2.0F);
  Team team(threads);
  auto share = [&](int member) {
    const std::size_t begin = kValues * static_cast<std::size_t>(member) /
                              static_cast<std::size_t>(threads),
                      end = kValues * static_cast<std::size_t>(member + 1) /
                            static_cast<std::size_t>(threads);
    for (std::size_t i = begin; i < end; ++i) a[i] = b[i] + c[i];
  };
  const double bytes = 3.0 * sizeof(float) * kValues;
  return bytes / best_time([&] { team.run(share); }) * 1e-9;
}

void measure(int argc, char** argv) {
  if (argc != 2) throw ArgumentError("roofline: give THREADS");
  const int threads = bench::positive("THREADS", argv[1]);
  double product = 0.0;
  for (const std::int64_t size : {512, 1024, 1536})
    product = std::max(product, product_rate(size, threads));
  const Json line{
      {"bench", "limits"},
      {"machine", true},
      {"threads", threads},
      {"gflops", product},
      {"memory_gbs", memory_rate(threads)},
      {"how", "best of 1 s each: products of 512 to 1536 squared, a = b + c on 384 MiB"}};
  std::cout << line.dump() << '\n';
}

}  // namespace

int main(int argc, char** argv) { return bench::run_bench(argc, argv, measure); }

// What does a block cost, taken and given back? One size at a time, on one or more threads at once,
// from the pool, from whatever malloc this process has, or from a side on GPU 0 (device_sides.h).
// Prints a JSON line per line of input.
#include "memory/pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include <nlohmann/json.hpp>

#include "bench/device_sides.h"

namespace {

using namespace poolgrad;
using namespace poolgrad::memory;
using Clock = std::chrono::steady_clock;

/// What is timed.
struct Cell {
  std::size_t bytes = 0;
  std::size_t alive = 1;  // blocks of a thread taken before the first of them is given back
  int threads = 1;
};

/// Nanoseconds for a block on one of the threads.
template <typename Take, typename Give>
double pair_ns(const Cell& cell, int rounds, std::atomic<int>& ready, const Take& take,
               const Give& give) {
  std::vector<void*> blocks(cell.alive);
  const auto round = [&] {
    for (void*& block : blocks) block = take(cell.bytes);
    for (std::size_t i = 0; i < cell.alive; ++i) give(blocks[i * 7 % cell.alive]);
  };
  for (int i = 0; i < 4; ++i) round();
  for (++ready; ready < cell.threads;) {  // all begin together
  }
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < rounds; ++i) round();
  const auto ns = std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
  return ns / rounds / static_cast<double>(cell.alive);
}

/// The mean over the threads.
template <typename Take, typename Give>
double measure(const Cell& cell, int rounds, const Take& take, const Give& give) {
  std::vector<double> ns(static_cast<std::size_t>(cell.threads));
  std::atomic<int> ready = 0;
  std::vector<std::thread> threads;
  for (double& each : ns) {
    threads.emplace_back([&] { each = pair_ns(cell, rounds, ready, take, give); });
  }
  double sum = 0.0;
  for (std::thread& thread : threads) thread.join();
  for (const double each : ns) sum += each;
  return sum / cell.threads;
}

/// A byte of each block is written.
void* touched(void* data) {
  *static_cast<volatile char*>(data) = 1;
  return data;
}

void* from_malloc(std::size_t bytes) {
  void* data = nullptr;
  return touched(posix_memalign(&data, 64, bytes) == 0 ? data : nullptr);
}

template <typename Measure>
void answer(const Measure& measure_cell) {
  Cell cell;
  int rounds = 0;
  while (std::cin >> cell.bytes >> cell.alive >> cell.threads >> rounds)
    std::cout << nlohmann::json{{"ns", measure_cell(cell, rounds)}} << std::endl;
}

/// In the order of one stream, on which nothing else is.
void answer_on_device(const std::string& name) {
  const bench::DeviceSide side(name, bench::cuda_parts());
  const Stream stream = side.parts().launcher->work();
  Resource& from = side.resource().upstream();
  answer([&](const Cell& cell, int rounds) {
    return measure(
        cell, rounds, [&](std::size_t bytes) { return from.allocate_on(stream, bytes, 64); },
        [&](void* data) { from.deallocate_on(stream, data, cell.bytes, 64); });
  });
}

/// pool pool|malloc|SIDE, then lines BYTES ALIVE THREADS ROUNDS.
void work(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "malloc";
  if (bench::is_device_side(name)) return answer_on_device(name);
  if (name == "malloc")
    return answer([](const Cell& cell, int rounds) {
      return measure(cell, rounds, from_malloc, [](void* data) { std::free(data); });
    });
  HostResource host;
  Pool pool(host);
  answer([&](const Cell& cell, int rounds) {
    return measure(
        cell, rounds, [&](std::size_t bytes) { return touched(pool.allocate(bytes, 64)); },
        [&](void* data) { pool.deallocate(data, cell.bytes, 64); });
  });
}

}  // namespace

int main(int argc, char** argv) { return bench::run_bench(argc, argv, work); }

// What does a block cost, taken and given back? One size at a time, on one or more threads at once,
// from the pool or from whatever malloc this process has. Prints a JSON line per line of input.
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

namespace {

using namespace poolgrad::memory;
using Clock = std::chrono::steady_clock;

/// What is timed.
struct Cell {
  std::size_t bytes = 0;
  std::size_t alive = 1;  // blocks of a thread taken before the first of them is given back
  int threads = 1;
};

/// Nanoseconds for a block on one of the threads. A byte of each block is written.
template <typename Take, typename Give>
double pair_ns(const Cell& cell, int rounds, std::atomic<int>& ready, const Take& take,
               const Give& give) {
  std::vector<void*> blocks(cell.alive);
  const auto round = [&] {
    for (void*& block : blocks) *static_cast<volatile char*>(block = take(cell.bytes)) = 1;
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

}  // namespace

/// pool pool|malloc, then lines BYTES ALIVE THREADS ROUNDS.
int main(int argc, char** argv) {
  const bool use_pool = argc > 1 && std::string(argv[1]) == "pool";
  HostResource host;
  Pool pool(host);
  Cell cell;
  int rounds = 0;
  while (std::cin >> cell.bytes >> cell.alive >> cell.threads >> rounds) {
    const double ns =
        use_pool ? measure(
                       cell, rounds, [&](std::size_t bytes) { return pool.allocate(bytes, 64); },
                       [&](void* data) { pool.deallocate(data, cell.bytes, 64); })
                 : measure(
                       cell, rounds,
                       [](std::size_t bytes) {
                         void* data = nullptr;
                         return posix_memalign(&data, 64, bytes) == 0 ? data : nullptr;
                       },
                       [](void* data) { std::free(data); });
    std::cout << nlohmann::json{{"ns", ns}} << std::endl;
  }
}

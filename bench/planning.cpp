// How near to the bound are plans, how fast, and are the proofs right?
//
//   planning hard COUNT SECONDS    rectangles cut into pieces, COUNT per size, SECONDS at most each
//   planning small COUNT           few crowded requests: every "infeasible" against brute force
//   planning random COUNT          random intervals against the checker
//   planning large COUNT           one plan of COUNT requests
//
// JSON lines, one per row of a table.
#include <algorithm>
#include <iostream>
#include <random>
#include <string>

#include <nlohmann/json.hpp>

#include "bench/requests/cut_rectangle.h"
#include "bench/requests/random_requests.h"
#include "bench/requests/smallest_arena.h"
#include "bench/workload.h"
#include "memory/plan.h"

using namespace poolgrad::memory;
using Json = nlohmann::ordered_json;

namespace {

using poolgrad::bench::Clock, poolgrad::bench::seconds_since;

void print(const Json& row) { std::cout << row.dump() << std::endl; }

struct Kind {
  std::string name;
  testing::Cuts cuts;
  testing::Rectangle whole;
};

/// The same requests in another order, all sizes three times as large.
std::vector<Request> changed(std::vector<Request> requests, unsigned seed) {
  std::shuffle(requests.begin(), requests.end(), std::mt19937(seed));
  for (Request& r : requests) r.bytes *= 3;
  return requests;
}

/// How many of `count` are solved in time, and how far greedy alone is from the bound.
void hard(unsigned count, double limit) {
  using testing::Cuts;
  const Kind kinds[] = {{"guillotine", Cuts::guillotine, {}},
                        {"wheels", Cuts::wheels, {}},
                        {"merged", Cuts::merged, {}},
                        {"both", Cuts::both, {}},
                        {"guillotine, 100 steps", Cuts::guillotine, {100, 1'000'000}},
                        {"both, 100 steps", Cuts::both, {100, 1'000'000}},
                        {"both, 4096 units", Cuts::both, {1000, 4096}}};
  for (const Kind& kind : kinds) {
    for (const std::size_t size : {150U, 300U, 500U}) {
      int within[3] = {0, 0, 0}, changed_within = 0, wrong = 0;
      double greedy = 0;
      for (unsigned seed = 0; seed < count; ++seed) {
        const std::vector<Request> requests =
            testing::CutRectangle(seed, size, kind.cuts, kind.whole).requests();
        PlanOptions options;
        options.rounds = 0;
        options.nodes = 0;
        const Plan first = plan(requests, options);
        greedy +=
            static_cast<double>(first.arena_bytes) / static_cast<double>(first.lower_bound_bytes);
        options = {};
        options.nodes = -1;
        options.seconds = limit;
        const Clock::time_point begin = Clock::now();
        const Plan best = plan(requests, options);
        const double seconds = seconds_since(begin);
        const double limits[] = {0.1, 1, 10};
        const bool solved = best.arena_bytes == best.lower_bound_bytes;
        for (int i = 0; i < 3; ++i) within[i] += solved && seconds <= limits[i] ? 1 : 0;
        wrong += check(best, requests) != "" || best.proved_bytes > best.lower_bound_bytes ? 1 : 0;
        options.seconds = 1;
        changed_within += plan(changed(requests, seed), options).optimal() ? 1 : 0;
      }
      print({{"bench", "planning"},
             {"question", "hard"},
             {"kind", kind.name},
             {"buffers", size},
             {"instances", count},
             {"greedy_over_bound", greedy / count},
             {"solved_0.1s", within[0]},
             {"solved_1s", within[1]},
             {"solved_10s", within[2]},
             {"changed_solved_1s", changed_within},
             {"wrong", wrong}});
    }
  }
}

/// Brute force, those at the witness first: where they alone do not fit, that shows soon.
bool fits(const std::vector<Request>& requests, const Witness& witness, std::size_t capacity) {
  std::vector<Request> ordered;
  std::vector<char> taken(requests.size());
  for (const std::size_t i : alive_at(requests, witness)) {
    ordered.push_back(requests[i]);
    taken[i] = 1;
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (taken[i] == 0) ordered.push_back(requests[i]);
  }
  std::vector<std::size_t> offsets(ordered.size());
  return testing::fits(ordered, capacity, offsets);
}

/// Asks for capacities from one below the bound, every fourth time from the bound on, up to the
/// first that is found to be enough. What is said to be enough is checked, what is said not to be
/// is tried by brute force.
void small(unsigned count) {
  int infeasible = 0, above = 0, false_infeasible = 0, undecided = 0, unsound = 0;
  unsigned asked = 0;
  for (unsigned seed = 0; asked < count; ++seed) {
    const bool tight = seed % 4 == 3;
    const std::vector<Request> requests =
        tight ? testing::tight_requests(seed) : testing::crowded_requests(seed);
    const Bound bound = lower_bound(requests, 1);
    PlanOptions options;
    options.alignment = 1;
    options.rounds = 0;
    options.nodes = 100'000;
    for (std::size_t capacity = bound.bytes - (tight ? 0 : 1); asked < count; ++capacity) {
      options.capacity = capacity;
      const Plan result = plan(requests, options);
      ++asked;
      unsound += check(result, requests, 1) != "" ? 1 : 0;
      if (result.stop == Stop::done) break;
      if (result.stop == Stop::nodes) {
        ++undecided;
        continue;
      }
      ++infeasible;
      above += capacity >= bound.bytes ? 1 : 0;
      false_infeasible += fits(requests, bound.witness, capacity) ? 1 : 0;
    }
  }
  print({{"bench", "planning"},
         {"question", "small"},
         {"asked", asked},
         {"infeasible", infeasible},
         {"infeasible_at_the_bound_or_above", above},
         {"false_infeasible", false_infeasible},
         {"undecided", undecided},
         {"unsound", unsound}});
}

void random(unsigned count) {
  int wrong = 0, optimal = 0;
  const Clock::time_point begin = Clock::now();
  for (unsigned seed = 0; seed < count; ++seed) {
    const std::vector<Request> requests = testing::random_intervals(seed, 1 + seed % 60);
    const Plan result = plan(requests);
    const bool sound = check(result, requests) == "" &&
                       result.lower_bound_bytes <= result.arena_bytes &&
                       result.arena_bytes <= sum_bytes(requests);
    wrong += sound ? 0 : 1;
    optimal += result.optimal() ? 1 : 0;
  }
  print({{"bench", "planning"},
         {"question", "random"},
         {"sets", count},
         {"wrong", wrong},
         {"optimal", optimal},
         {"seconds", seconds_since(begin)}});
}

void large(unsigned count) {
  std::mt19937 draw(1);
  std::vector<Request> requests(count);
  for (Request& r : requests) {  // most live shortly, some all through, sizes over five decades
    r.first = static_cast<int>(draw() % count);
    const unsigned longest = draw() % 16 == 0 ? 4000 : 60;
    r.end = r.first + 1 + static_cast<int>(draw() % longest);
    r.bytes = std::size_t{64} << draw() % 16;
    r.bytes += draw() % r.bytes;
  }
  const Clock::time_point begin = Clock::now();
  const Plan result = plan(requests);
  const double seconds = seconds_since(begin);
  print({{"bench", "planning"},
         {"question", "large"},
         {"buffers", count},
         {"seconds", seconds},
         {"gap_percent", 100 * (static_cast<double>(result.arena_bytes) /
                                    static_cast<double>(result.lower_bound_bytes) -
                                1)}});
}

}  // namespace

int main(int argc, char** argv) {
  const std::string question = argc > 1 ? argv[1] : "";
  const auto count = static_cast<unsigned>(argc > 2 ? std::stoul(argv[2]) : 0);
  if (question == "hard" && argc == 4)
    hard(count, std::stod(argv[3]));
  else if (question == "small" && argc == 3)
    small(count);
  else if (question == "random" && argc == 3)
    random(count);
  else if (question == "large" && argc == 3)
    large(count);
  else {
    std::cerr << "usage: planning hard COUNT SECONDS | small COUNT | random COUNT | large COUNT\n";
    return 2;
  }
}

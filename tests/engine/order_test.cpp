// Orders of jobs against all orders there are, counted from lifetimes. What they do to programs is
// modes_test.cpp's.
#include "engine/passes/order.h"

#include <algorithm>
#include <numeric>
#include <random>

#include <doctest/doctest.h>

namespace poolgrad::passes {
namespace {

std::size_t row(int id) { return static_cast<std::size_t>(id); }

bool respects(const Jobs& jobs, const std::vector<int>& order) {
  std::vector<std::size_t> place(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) place[row(order[i])] = i;
  for (std::size_t job = 0; job < order.size(); ++job) {
    for (const int earlier : jobs.all[job].before)
      if (place[row(earlier)] >= place[job]) return false;
  }
  return true;
}

/// From the first and the last place of each block's users.
std::size_t peak_of(const Jobs& jobs, const std::vector<int>& order) {
  std::vector<std::size_t> bytes(order.size());
  std::vector<int> place(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    place[row(order[i])] = static_cast<int>(i);
    bytes[i] += jobs.all[row(order[i])].inside;
  }
  for (std::size_t b = 0; b < jobs.blocks.size(); ++b) {
    int first = static_cast<int>(order.size()), last = -1;
    for (const int user : jobs.blocks[b].users) {
      first = std::min(first, place[row(user)]);
      last = std::max(last, place[row(user)]);
    }
    for (int i = first; i <= last; ++i) {
      const bool is_given = i == last && jobs.all[row(order[row(i)])].gives == static_cast<int>(b);
      if (!is_given) bytes[row(i)] += jobs.blocks[b].bytes;
    }
  }
  return *std::ranges::max_element(bytes);
}

/// Each job makes a block that some later ones read; some work in the place of what they read.
Jobs random_jobs(std::mt19937& random, int count, int most_bytes) {
  Jobs jobs{.all = std::vector<Job>(row(count)), .blocks = std::vector<Block>(row(count))};
  const auto below = [&](int end) { return static_cast<int>(random() % row(end)); };
  for (int i = 0; i < count; ++i) {
    jobs.blocks[row(i)] = {row(1 + below(most_bytes)), {i}};
    jobs.all[row(i)].inside = below(3) == 0 ? row(below(most_bytes)) : 0;
    for (int k = 0; k < i; ++k) {
      if (below(3) != 0) continue;
      jobs.all[row(i)].before.push_back(k);
      if (below(4) != 0) jobs.blocks[row(k)].users.push_back(i);
    }
  }
  for (int i = 0; i < count; ++i) {
    for (int b = 0; b < i; ++b) {
      if (std::ranges::count(jobs.blocks[row(b)].users, i) > 0 &&
          jobs.blocks[row(b)].bytes == jobs.blocks[row(i)].bytes)
        jobs.all[row(i)].gives = b;
    }
  }
  return jobs;
}

std::vector<int> as_given(const Jobs& jobs) {
  std::vector<int> order(jobs.all.size());
  std::iota(order.begin(), order.end(), 0);
  return order;
}

TEST_CASE("order: of small sets of jobs, the peak is that of the best of all orders") {
  std::mt19937 random(5);
  int lower = 0, lowest = 0;
  for (int round = 0; round < 3000; ++round) {
    const Jobs jobs = random_jobs(random, 2 + round % 6, round % 2 == 0 ? 3 : 100);
    std::vector<int> order = as_given(jobs);
    const std::size_t before = peak_of(jobs, order);
    std::size_t best = before;
    do {
      if (respects(jobs, order)) best = std::min(best, peak_of(jobs, order));
    } while (std::next_permutation(order.begin(), order.end()));
    const Order found = lower_peak(jobs, as_given(jobs), 10'000);
    CAPTURE(round);
    REQUIRE(std::ranges::is_permutation(found.jobs, as_given(jobs)));
    REQUIRE(respects(jobs, found.jobs));
    REQUIRE(peak_of(jobs, found.jobs) == found.peak);
    REQUIRE(found.peak == best);
    REQUIRE(found.best);
    if (best == before) REQUIRE(found.jobs == as_given(jobs));
    best < before ? ++lower : ++lowest;
  }
  CHECK(lower > 500);
  CHECK(lowest > 300);
}

TEST_CASE("order: of no jobs, or of jobs without bytes, every order is the best, without a trial") {
  for (const std::size_t count : {0U, 3U}) {
    const Jobs jobs{.all = std::vector<Job>(count), .blocks = {}};
    const Order found = lower_peak(jobs, as_given(jobs), 1000);
    CHECK(found.jobs == as_given(jobs));
    CHECK(found.peak == 0);
    CHECK(found.best);
    CHECK(found.trials == 0);
  }
}

TEST_CASE("order: of many jobs, some are moved near the fullest place, within the trials allowed") {
  std::mt19937 random(6);
  int lower = 0;
  for (int round = 0; round < 20; ++round) {
    const Jobs jobs = random_jobs(random, 150, 1000);
    const std::size_t before = peak_of(jobs, as_given(jobs));
    for (const int trials : {0, 300, 4000}) {
      const Order found = lower_peak(jobs, as_given(jobs), trials);
      REQUIRE(respects(jobs, found.jobs));
      REQUIRE(peak_of(jobs, found.jobs) == found.peak);
      REQUIRE(found.peak <= before);
      CHECK(found.trials <= trials + 150);
      CHECK(lower_peak(jobs, as_given(jobs), trials).jobs == found.jobs);
      lower += found.peak < before ? 1 : 0;
    }
  }
  CHECK(lower > 20);
}

TEST_CASE(
    "order: a producer waits for its reader, an update runs as soon as its gradient is there") {
  // 0 and 1 make 10 bytes each, 2 and 3 turn them into one byte, 4 adds those up
  Jobs jobs{.all = std::vector<Job>(5),
            .blocks = {{10, {0, 2}}, {10, {1, 3}}, {1, {2, 4}}, {1, {3, 4}}}};
  jobs.all[2].before = {0}, jobs.all[3].before = {1}, jobs.all[4].before = {2, 3};
  CHECK(alive(jobs, as_given(jobs)) == std::vector<std::size_t>{10, 20, 21, 12, 2});
  const Order found = lower_peak(jobs, as_given(jobs), 1000);
  CHECK(found.jobs == std::vector<int>{0, 2, 1, 3, 4});
  CHECK(found.peak == 12);
  CHECK(found.best);
}

}  // namespace
}  // namespace poolgrad::passes

// Which samples come when.
#include "train/batches.h"

#include <algorithm>
#include <array>
#include <numeric>

#include <doctest/doctest.h>

#include "engine/error.h"

namespace poolgrad::train {
namespace {

/// The numbers of the samples of one epoch, in the order in which they come.
std::vector<int> epoch(Batches& batches) {
  std::vector<int> order;
  for (auto rows = batches.next(); !rows.empty(); rows = batches.next()) {
    const auto left = batches.samples() - static_cast<std::int64_t>(order.size());
    CHECK(static_cast<std::int64_t>(rows.size()) == std::min(batches.batch(), left));
    order.insert(order.end(), rows.begin(), rows.end());
  }
  return order;
}

TEST_CASE("batches: an epoch reads every sample once, the short last batch too") {
  for (const std::int64_t n : {1, 7, 64, 65, 1000}) {
    for (const std::int64_t batch : {1, 7, 64}) {
      if (batch > n) continue;
      CAPTURE(n);
      CAPTURE(batch);
      Batches batches(n, batch, /*seed=*/3);
      for (const int e : {1, 2}) {
        batches.shuffle(e);
        std::vector<int> order = epoch(batches);
        std::ranges::sort(order);
        std::vector<int> all(static_cast<std::size_t>(n));
        std::iota(all.begin(), all.end(), 0);
        CHECK(order == all);
      }
    }
  }
}

TEST_CASE("batches: the order depends on seed and epoch, and on nothing else") {
  const auto order = [&](std::uint64_t seed, int e, std::int64_t batch = 8) {
    Batches batches(100, batch, seed);
    batches.shuffle(e);
    return epoch(batches);
  };
  CHECK(order(1, 5) == order(1, 5));
  CHECK(order(1, 5) == order(1, 5, 100));
  CHECK(order(1, 5) != order(1, 6));
  CHECK(order(1, 5) != order(2, 5));
  Batches batches(100, 8, 1);  // after other epochs, as in a long run
  for (const int e : {1, 2, 3, 4, 5}) batches.shuffle(e);
  CHECK(epoch(batches) == order(1, 5));
  // By a Philox of its own: 30 lines of Python after the paper's definition.
  const std::vector<int> begin = order(0, 1);
  CHECK(std::vector(begin.begin(), begin.begin() + 8) == std::vector{54, 2, 43, 50, 4, 28, 89, 49});
}

TEST_CASE("batches: every sample comes first about equally often") {
  Batches batches(5, 5, 9);
  std::array<int, 5> first{};
  for (int e = 0; e < 5000; ++e) {
    batches.shuffle(e);
    ++first[static_cast<std::size_t>(epoch(batches)[0])];
  }
  for (const int count : first) CHECK(std::abs(count - 1000) < 120);  // four standard deviations
}

TEST_CASE("batches: a batch of none, and one larger than the data") {
  CHECK_THROWS_WITH_AS(Batches(10, 0, 0),
                       "batches: batch 0 of a data set of 10 samples; take 1 to 10", ArgumentError);
  CHECK_THROWS_AS(Batches(10, 11, 0), ArgumentError);
}

}  // namespace
}  // namespace poolgrad::train

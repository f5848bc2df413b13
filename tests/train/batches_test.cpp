// Which samples come when, and what arrives in the slots.
#include "train/batches.h"

#include <algorithm>
#include <numeric>
#include <set>

#include <doctest/doctest.h>

#include "engine/error.h"
#include "memory/allocation_count.h"

namespace poolgrad::train {
namespace {

/// Sample i holds its own number in every place; its label is i mod 10.
struct Numbers {
  std::vector<float> samples;
  std::vector<std::uint8_t> labels;
  Dataset data;

  explicit Numbers(std::int64_t n) : samples(static_cast<std::size_t>(n * 3)) {
    for (std::size_t i = 0; i < samples.size(); ++i) samples[i] = static_cast<float>(i / 3);
    for (std::int64_t i = 0; i < n; ++i) labels.push_back(static_cast<std::uint8_t>(i % 10));
    data = {ArrayView::of(std::span(samples), {n, 3}, DType::f32),
            ArrayView::of(std::span(labels), {n}, DType::u8)};
  }
};

/// The numbers of the samples of one epoch, in the order in which they come.
std::vector<int> epoch(Batches& batches) {
  std::vector<float> samples(static_cast<std::size_t>(batches.batch() * 3));
  std::vector<std::int64_t> labels(static_cast<std::size_t>(batches.batch()));
  std::vector<int> order;
  while (const std::int64_t rows = batches.next(samples.data(), labels.data())) {
    for (std::int64_t i = 0; i < rows; ++i) {
      const auto at = static_cast<std::size_t>(i);
      order.push_back(static_cast<int>(samples[3 * at]));
      CHECK(samples[3 * at + 2] == samples[3 * at]);
      CHECK(labels[at] == order.back() % 10);
    }
  }
  return order;
}

TEST_CASE("batches: an epoch reads every sample once, the short last batch too") {
  for (const std::int64_t n : {1, 7, 64, 65, 1000}) {
    for (const std::int64_t batch : {1, 7, 64}) {
      if (batch > n) continue;
      CAPTURE(n);
      CAPTURE(batch);
      const Numbers numbers(n);
      Batches batches(numbers.data, batch, /*seed=*/3);
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
  const Numbers numbers(100);
  const auto order = [&](std::uint64_t seed, int e, std::int64_t batch = 8) {
    Batches batches(numbers.data, batch, seed);
    batches.shuffle(e);
    return epoch(batches);
  };
  CHECK(order(1, 5) == order(1, 5));
  CHECK(order(1, 5) == order(1, 5, 100));
  CHECK(order(1, 5) != order(1, 6));
  CHECK(order(1, 5) != order(2, 5));
  Batches batches(numbers.data, 8, 1);  // after other epochs, as in a long run
  for (const int e : {1, 2, 3, 4, 5}) batches.shuffle(e);
  CHECK(epoch(batches) == order(1, 5));
  // By a Philox of its own: 30 lines of Python after the paper's definition.
  const std::vector<int> begin = order(0, 1);
  CHECK(std::vector(begin.begin(), begin.begin() + 8) == std::vector{54, 2, 43, 50, 4, 28, 89, 49});
}

TEST_CASE("batches: every sample comes first about equally often") {
  const Numbers numbers(5);
  Batches batches(numbers.data, 5, 9);
  std::array<int, 5> first{};
  for (int e = 0; e < 5000; ++e) {
    batches.shuffle(e);
    ++first[static_cast<std::size_t>(epoch(batches)[0])];
  }
  for (const int count : first) CHECK(std::abs(count - 1000) < 120);  // four standard deviations
}

TEST_CASE("batches: pixels become what NumPy makes of them, byte by byte") {
  std::vector<std::uint8_t> pixels(256), labels{0};
  std::iota(pixels.begin(), pixels.end(), std::uint8_t{0});
  const Dataset data{ArrayView::of(std::span(pixels), {1, 16, 16}, DType::u8),
                     ArrayView::of(std::span(labels), {1}, DType::u8)};
  Batches batches(data, 1, 0);
  std::vector<float> samples(256);
  std::int64_t label = -1;
  CHECK(batches.next(samples.data(), &label) == 1);
  CHECK(label == 0);
  for (std::size_t i = 0; i < 256; ++i) CHECK(samples[i] == static_cast<float>(i) / 255.0F);
  CHECK(batches.next(samples.data(), &label) == 0);
}

TEST_CASE("batches: a batch of none, and one larger than the data") {
  const Numbers numbers(10);
  CHECK_THROWS_WITH_AS(Batches(numbers.data, 0, 0),
                       "batches: batch 0 of a data set of 10 samples; take 1 to 10", ArgumentError);
  CHECK_THROWS_AS(Batches(numbers.data, 11, 0), ArgumentError);
}

}  // namespace
}  // namespace poolgrad::train

// dropout: its definition element by element, how often it drops, its gradient, and that neither
// threads nor passes nor a resume change what is dropped.
#include <cmath>
#include <set>

#include <doctest/doctest.h>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "engine/program.h"
#include "engine/random.h"
#include "tests/engine/gradient.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using Values = std::vector<float>;

/// dropout of ones, as the `node`-th of its graph.
Values dropped(const Shape& shape, double p, std::uint64_t seed = 3, int node = 0,
               std::int64_t step = 0) {
  Graph graph;
  const Tensor x = graph.input({shape}, "x");
  Tensor y = dropout(x, p, seed);
  for (int i = 0; i < node; ++i) y = dropout(x, p, seed);
  testing::Evaluation run(graph);
  run.set(x, Values(static_cast<std::size_t>(shape.count()), 1.0F));
  testing::Value steps(Spec{{}, DType::i64});
  steps.as<std::int64_t>()[0] = step;
  run.set(graph.step(), steps);
  run.run();
  const auto values = run[y].as<float>();
  return {values.begin(), values.end()};
}

TEST_CASE("dropout: an element is kept by the number at its place, and scaled") {
  const Values y = dropped({5, 47}, 0.3, /*seed=*/9, /*node=*/2, /*step=*/7);
  const std::uint64_t stream = 1ULL << 63U | 2ULL << 40U | 7ULL;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::uint64_t block = i / 64, place = i % 64;
    const float u = unit(draw(9, stream, 16 * block + place % 16)[place / 16]);
    CHECK(y[i] == (u < 0.3 ? 0.0F : static_cast<float>(1.0 / (1.0 - 0.3))));
  }
}

TEST_CASE("dropout: of images a place is channels-last") {
  const Values rows = dropped({4, 6, 3}, 0.5), images = dropped({4, 3, 2, 3}, 0.5);
  std::size_t i = 0;
  for (std::size_t n = 0; n < 4; ++n)
    for (std::size_t c = 0; c < 3; ++c)
      for (std::size_t pixel = 0; pixel < 6; ++pixel)
        CHECK(images[i++] == rows[n * 18 + pixel * 3 + c]);
}

TEST_CASE("dropout: the share that is dropped is p, and the mean stays") {
  constexpr std::int64_t kCount = 1 << 20;
  for (const double p : {0.0, 0.1, 0.5, 0.9, 1.0}) {
    CAPTURE(p);
    double zeros = 0, sum = 0;
    for (const float y : dropped({kCount / 64, 64}, p)) zeros += y == 0.0F, sum += y;
    const double sigma = std::sqrt(p * (1 - p) / kCount);
    CHECK(std::abs(zeros / kCount - p) <= 5 * sigma);
    CHECK(std::abs(sum / kCount - (p < 1 ? 1 : 0)) <= 5 * sigma / (p < 1 ? 1 - p : 1) + 1e-6);
  }
}

TEST_CASE("dropout: neighbours in every direction are independent") {
  constexpr std::int64_t kCount = 1 << 18;
  const auto base = dropped({kCount}, 0.5);
  const auto agreeing = [&](const Values& other, std::size_t shift) {
    double same = 0;
    for (std::size_t i = 0; i + shift < base.size(); ++i) same += base[i] == other[i + shift];
    return same / static_cast<double>(base.size() - shift);
  };
  const double close = 5 * 0.5 / std::sqrt(kCount);
  for (const std::size_t shift : {1, 2, 16, 32, 48, 64, 256}) {
    CAPTURE(shift);
    CHECK(std::abs(agreeing(base, shift) - 0.5) < close);
  }
  CHECK(std::abs(agreeing(dropped({kCount}, 0.5, 4), 0) - 0.5) < close);
  CHECK(std::abs(agreeing(dropped({kCount}, 0.5, 3, 1), 0) - 0.5) < close);
  CHECK(std::abs(agreeing(dropped({kCount}, 0.5, 3, 0, 1), 0) - 0.5) < close);
  CHECK(agreeing(dropped({kCount}, 0.5), 0) == 1.0);
}

TEST_CASE("dropout: backward agrees with central differences") {
  for (const Shape& shape : {Shape{1}, Shape{3, 5}, Shape{2, 3, 4, 4}, Shape{3, 67}}) {
    CAPTURE(to_string(shape));
    const auto half = [](Tensor x) { return dropout(x, 0.4); };
    CHECK(testing::gradient_gap(half, shape, /*seed=*/7) < 1e-3);
  }
}

TEST_CASE("dropout: errors name the operand and the remedy") {
  Graph graph;
  CHECK_THROWS_WITH_AS(dropout(graph.input({{4}}, "x"), 1.5),
                       "dropout: p is 1.5; a probability is from 0 to 1", ArgumentError);
  CHECK_THROWS_WITH_AS(dropout(graph.input({{4}, DType::f64}, "x"), 0.5),
                       "dropout: x [4] is float64; kernels take float32, convert it first",
                       ShapeError);
}

// ---- in programs

/// y and dx of `steps` runs on a batch of images, the step being set by hand.
struct Run {
  Graph graph;
  Tensor x, y, dx, one;

  explicit Run(std::int64_t batch = 40) {
    x = graph.parameter({batch, 8, 16, 16}, Init::constant(1.0F), "x");
    y = dropout(relu(x), 0.5, 11);
    Tensor last = relu(dropout(y, 0.25, 11));
    one = graph.state({}, Init::constant(1.0F), "one", "settings");
    const std::int64_t count = batch * 8 * 16 * 16;
    last = reshape(last, {1, count});
    const Tensor ones = graph.state({{count, 1}}, Init::constant(1.0F), "ones", "settings");
    const std::vector<Tensor> wanted{x};
    dx = differentiate(reshape(matmul(last, ones), {}), wanted, one)[0];
  }
  Values operator()(const Options& options, std::int64_t first_step = 0) {
    Program program = compile(graph, {{"all", {y, dx}}}, options);
    Values result;
    for (std::int64_t step = first_step; step < 3; ++step) {
      program.view(graph.step()).as<std::int64_t>()[0] = step;
      program.run("all");
      for (const Tensor& tensor : {y, dx}) {
        const auto values = program.view(tensor).as<float>();
        result.insert(result.end(), values.begin(), values.end());
      }
    }
    return result;
  }
};

TEST_CASE(
    "dropout: threads, chunks and passes change no element, nor does beginning at a later step") {
  Run run;
  const Values base = run({});
  const std::set<float> dx(base.begin() + 40 * 2048, base.begin() + 80 * 2048);
  CHECK(dx == std::set<float>{0.0F, 1.0F / 0.75F * 2.0F});
  for (const int threads : {1, 2, 3}) {
    for (const int chunks : {1, 4, 7}) {
      CAPTURE(threads);
      CAPTURE(chunks);
      CHECK(run({.threads = threads, .chunks = chunks}) == base);
      CHECK(run({.threads = threads, .chunks = chunks, .recompute = false}) == base);
    }
  }
  CHECK(run({.layout = false}) == base);
  CHECK(run({.schedule = false}) == base);
  CHECK(run({.in_place = false}) == base);
  const Values later = run({.threads = 2}, 2);
  CHECK(std::equal(later.begin(), later.end(),
                   base.end() - static_cast<std::ptrdiff_t>(later.size())));
}

}  // namespace
}  // namespace poolgrad

// softmax_cross_entropy and count_correct against their definitions.
#include <cmath>

#include <doctest/doctest.h>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "tests/engine/gradient.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using testing::Evaluation, testing::Value;

struct Loss {
  float loss;
  Value dlogits;
  std::int64_t correct;
};

Loss run_loss(const Shape& shape, const std::vector<float>& values,
              const std::vector<std::int64_t>& labels, std::int32_t rows,
              Reduction reduction = Reduction::mean, float scale = 1.0F) {
  Graph graph;
  const Tensor logits = graph.parameter(shape, {}, "logits");
  const Tensor slot = graph.input({{shape[0]}, DType::i64}, "labels");
  const Tensor loss = softmax_cross_entropy(logits, slot, reduction);
  const Tensor correct = count_correct(logits, slot);
  const Tensor seed = graph.input({{}}, "seed");
  const auto grads = differentiate(loss, std::vector{logits}, seed);
  Evaluation run(graph);
  run.set(logits, values);
  run.set(slot, testing::labels(labels));
  run.set(graph.rows(), testing::scalar(rows));
  run.set(seed, std::vector{scale});
  run.run();
  return {run[loss].as<float>()[0], run[grads[0]], run[correct].as<std::int64_t>()[0]};
}

TEST_CASE(
    "softmax_cross_entropy: loss and gradient agree with f64, as mean and as sum, rows masked") {
  for (const std::int64_t classes : {1, 2, 3, 10, 16, 17, 100}) {
    for (const std::int32_t rows : {1, 5, 7}) {
      for (const Reduction reduction : {Reduction::mean, Reduction::sum}) {
        CAPTURE(classes);
        CAPTURE(rows);
        const std::int64_t n = 7;
        const auto x = testing::spread(n * classes, 3);
        std::vector<std::int64_t> labels;
        for (std::int64_t i = 0; i < n; ++i) labels.push_back((i * 5 + 1) % classes);
        for (std::size_t i = static_cast<std::size_t>(rows); i < 7; ++i) labels[i] = -1;
        const Loss got = run_loss({n, classes}, x, labels, rows, reduction, 0.5F);
        const double scale = reduction == Reduction::mean ? 1.0 / rows : 1.0;
        double loss = 0.0;
        for (std::int64_t i = 0; i < n; ++i) {
          double sum = 0.0;
          const float* row = x.data() + i * classes;
          for (std::int64_t j = 0; j < classes; ++j) sum += std::exp(static_cast<double>(row[j]));
          for (std::int64_t j = 0; j < classes; ++j) {
            const bool hit = j == labels[static_cast<std::size_t>(i)];
            const double p = std::exp(static_cast<double>(row[j])) / sum;
            const double expected = i < rows ? (p - (hit ? 1.0 : 0.0)) * scale * 0.5 : 0.0;
            CHECK(std::abs(got.dlogits.as<float>()[static_cast<std::size_t>(i * classes + j)] -
                           expected) < 1e-6);
            if (hit && i < rows) loss -= std::log(p) * scale;
          }
        }
        CHECK(got.loss == doctest::Approx(loss).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("softmax_cross_entropy: large logits do not overflow, small ones do not vanish") {
  const Loss far = run_loss({2, 3}, {1000.0F, 0.0F, -1000.0F, -1e30F, 0.0F, -INFINITY}, {0, 1}, 2);
  CHECK(far.loss == 0.0F);
  const Loss wrong = run_loss({1, 2}, {1000.0F, 0.0F}, {1}, 1);
  CHECK(wrong.loss == doctest::Approx(1000.0));
  CHECK(wrong.dlogits.as<float>()[0] == doctest::Approx(1.0));
  const Loss sure = run_loss({1, 2}, {10.0F, 0.0F}, {0}, 1);
  CHECK(sure.loss == doctest::Approx(std::log1p(std::exp(-10.0))).epsilon(1e-3));
}

TEST_CASE(
    "softmax_cross_entropy: NaN in a row that counts makes the loss NaN, in another it does not") {
  const std::vector<float> values{0.0F, 1.0F, NAN, 2.0F};
  CHECK(std::isnan(run_loss({2, 2}, values, {0, 1}, 2).loss));
  const Loss masked = run_loss({2, 2}, values, {0, 1}, 1);
  CHECK(std::isfinite(masked.loss));
  CHECK(masked.dlogits.as<float>()[2] == 0.0F);
}

TEST_CASE("softmax_cross_entropy: backward agrees with central differences") {
  for (const Reduction reduction : {Reduction::mean, Reduction::sum}) {
    const auto build = [&](Tensor x) {
      const Tensor labels = x.graph->input({{x.shape()[0]}, DType::i64}, "labels");
      return softmax_cross_entropy(x, labels, reduction);
    };
    for (const Shape& shape : {Shape{1, 3}, Shape{5, 10}, Shape{4, 33}}) {
      CAPTURE(to_string(shape));
      CHECK(testing::gradient_gap(build, shape, /*seed=*/7) < 1e-3);
    }
  }
}

TEST_CASE(
    "softmax_cross_entropy: a label out of range is named, with its row, only in rows that count") {
  CHECK_THROWS_WITH_AS(run_loss({3, 4}, std::vector<float>(12), {0, 12, 3}, 3),
                       "softmax_cross_entropy: label 12 in row 1 is not in [0, 4); use labels from "
                       "0 to 3",
                       ArgumentError);
  CHECK_THROWS_AS(run_loss({3, 4}, std::vector<float>(12), {0, 1, -1}, 3), ArgumentError);
  CHECK_NOTHROW(run_loss({3, 4}, std::vector<float>(12), {0, 1, -1}, 2));
}

TEST_CASE("softmax_cross_entropy: the errors name shapes and dtypes") {
  Graph graph;
  const Tensor logits = graph.input({{8, 10}}, "logits");
  CHECK_THROWS_WITH_AS(
      softmax_cross_entropy(logits, graph.input({{7}, DType::i64}, "labels")),
      "softmax_cross_entropy: logits [8, 10] need labels [8] of int64, not [7] of int64",
      ShapeError);
  CHECK_THROWS_AS(softmax_cross_entropy(logits, graph.input({{8}}, "labels")), ShapeError);
  CHECK_THROWS_WITH_AS(
      count_correct(graph.input({{8}}, "x"), graph.input({{8}, DType::i64}, "labels")),
      "count_correct: logits [8] must be [rows, classes]; reshape them", ShapeError);
}

TEST_CASE("count_correct: the first of the largest logits counts, in the first rows only") {
  const std::vector<float> values{1.0F, 3.0F, 2.0F,  // 1
                                  5.0F, 5.0F, 0.0F,  // 0: the first of equals
                                  0.0F, 0.0F, 9.0F,  // 2
                                  NAN,  0.0F, 0.0F};
  CHECK(run_loss({4, 3}, values, {1, 0, 2, 0}, 4).correct == 3);
  CHECK(run_loss({4, 3}, values, {1, 1, 2, 1}, 4).correct == 2);
  CHECK(run_loss({4, 3}, values, {1, 0, 2, 0}, 2).correct == 2);
}

}  // namespace
}  // namespace poolgrad

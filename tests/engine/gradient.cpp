// Gradients against central differences.
#include "tests/engine/gradient.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "engine/autograd.h"
#include "engine/ops.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad::testing {
namespace {

constexpr std::size_t kMost = 60;  // values of an input that are moved

/// Which values are moved: all, or some.
std::vector<std::size_t> places(std::size_t count, std::mt19937& random) {
  std::vector<std::size_t> all(count), some;
  for (std::size_t i = 0; i < count; ++i) all[i] = i;
  std::ranges::sample(all, std::back_inserter(some), static_cast<std::ptrdiff_t>(kMost), random);
  return some;
}

}  // namespace

double gradient_gap(const std::function<Tensor(std::span<const Tensor>)>& build,
                    const std::vector<Shape>& shapes, unsigned seed, float spacing) {
  std::mt19937 random(seed);
  Graph graph;
  std::vector<Tensor> inputs;
  for (const Shape& shape : shapes) inputs.push_back(graph.parameter(shape, {}, "x"));
  const Tensor y = build(inputs);
  const std::size_t forward = graph.nodes.size();
  const std::int64_t count = y.shape().count();
  const Tensor weights = graph.input({{count, 1}}, "weights", false);
  const Tensor one = graph.input({{}}, "one");
  const Tensor loss = reshape(matmul(reshape(y, {1, count}), weights), {});
  const std::vector<Tensor> grads = differentiate(loss, inputs, one);

  Evaluation run(graph);
  std::vector<std::vector<float>> values;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    values.push_back(spread(shapes[i].count(), seed + static_cast<unsigned>(i), spacing));
    run.set(inputs[i], values[i]);
  }
  const std::vector<float> weight_values =
      spread(count, seed + 100, 1.0F / static_cast<float>(count));
  run.set(weights, weight_values);
  run.set(one, std::vector{1.0F});
  if (graph.rows_id() >= 0) run.set(graph.rows(), scalar(static_cast<std::int32_t>(shapes[0][0])));
  for (const Tensor& counter : graph.column("counters")) {
    Value steps(counter.spec());
    steps.as<std::int64_t>()[0] = 5;
    run.set(counter, steps);
  }
  for (const Tensor& slot : graph.column("inputs")) {
    if (slot.spec().dtype != DType::i64) continue;
    std::vector<std::int64_t> numbers(static_cast<std::size_t>(slot.shape().count()));
    for (std::size_t k = 0; k < numbers.size(); ++k) numbers[k] = static_cast<std::int64_t>(k % 3);
    run.set(slot, labels(numbers));
  }
  run.run();
  std::vector<Value> expected;
  for (std::size_t i = 0; i < grads.size(); ++i) {  // none: the output does not depend on it
    const std::vector<float> zeros(static_cast<std::size_t>(shapes[i].count()));
    expected.push_back(grads[i] ? run[grads[i]] : floats(shapes[i], zeros));
  }

  const float step = spacing / 3.0F;
  const auto sum_at = [&](std::size_t i, std::size_t place, float moved) {
    std::vector<float> changed = values[i];
    changed[place] = moved;
    run.set(inputs[i], changed);
    run.run(forward);
    double sum = 0.0;
    for (std::size_t k = 0; k < weight_values.size(); ++k)
      sum += static_cast<double>(weight_values[k]) * run[y].as<float>()[k];
    run.set(inputs[i], values[i]);
    return sum;
  };
  double worst = 0.0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    double gap = 0.0, largest = 1e-3;
    for (const float g : expected[i].as<float>()) {
      if (!std::isfinite(g)) return INFINITY;
      largest = std::max<double>(largest, std::abs(g));
    }
    for (const std::size_t place : places(values[i].size(), random)) {
      const float above = values[i][place] + step, below = values[i][place] - step;
      const double slope = (sum_at(i, place, above) - sum_at(i, place, below)) /
                           (static_cast<double>(above) - below);
      if (!std::isfinite(slope)) return INFINITY;
      gap = std::max(gap, std::abs(slope - expected[i].as<float>()[place]));
    }
    worst = std::max(worst, gap / largest);
  }
  return worst;
}

double gradient_gap(const std::function<Tensor(Tensor)>& build, const Shape& shape, unsigned seed) {
  return gradient_gap([&](std::span<const Tensor> x) { return build(x[0]); }, {shape}, seed);
}

}  // namespace poolgrad::testing

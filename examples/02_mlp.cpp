// A network that learns, step by step: graph, layers, loss, optimizer, program.
//
// Points of the plane belong to class 1 inside a ring and to class 0 elsewhere: no line tells them
// apart, a small network does. No files are needed.
#include <array>
#include <cstdio>
#include <vector>

#include "engine/ops.h"
#include "engine/program.h"
#include "engine/random.h"
#include "engine/report.h"
#include "layers/linear.h"
#include "layers/stateless.h"
#include "train/minimize.h"

using namespace poolgrad;

namespace {

constexpr std::int64_t kBatch = 64;

/// A batch of points and their classes; `index` counts batches. Random numbers come from their
/// place, so that every run of this example prints the same.
void draw_points(std::uint64_t index, std::span<float> points, std::span<std::int64_t> classes) {
  for (std::size_t i = 0; i < classes.size(); ++i) {
    const auto bits = draw(/*seed=*/1, /*stream=*/index, i);
    const float x = 4.0F * unit(bits[0]) - 2.0F, y = 4.0F * unit(bits[1]) - 2.0F;
    const float radius = x * x + y * y;
    points[2 * i] = x;
    points[2 * i + 1] = y;
    classes[i] = radius > 0.8F && radius < 2.6F ? 1 : 0;
  }
}

}  // namespace

int main() {
  // 1. The graph: nothing is computed here, nodes are written down.
  Graph graph;
  const Tensor points = graph.input({{kBatch, 2}}, "points");
  const Tensor classes = graph.input({{kBatch}, DType::i64}, "classes");
  const layers::Sequential model{layers::Linear{2, 32}, layers::ReLU{}, layers::Linear{32, 32},
                                 layers::ReLU{}, layers::Linear{32, 2}};
  const Tensor logits = model(graph, points, /*training=*/true);
  const Tensor correct = count_correct(logits, classes);

  // 2. The loss becomes a training entry: backward pass and updates are nodes like all others.
  const train::Training training =
      train::minimize(softmax_cross_entropy(logits, classes), train::Adam{.rate = 5e-3F});

  // 3. compile() plans every byte and takes them at once. From here on nothing allocates.
  Program program =
      compile(graph, {training.entry("train"), {"evaluate", {correct}}}, {.threads = 1});
  std::printf("%s", describe(program.blueprint(), "train", /*most=*/3).c_str());

  // 4. The loop. What is fed could lie anywhere; here it is drawn straight into the input slots.
  const ArrayView x = program.view(points), y = program.view(classes);
  const std::array feeds{Feed{points, x}, Feed{classes, y}};
  for (std::uint64_t step = 0; step < 2000; ++step) {
    draw_points(step, x.as<float>(), y.as<std::int64_t>());
    program.run("train", feeds);
    if (step % 500 == 0 || step == 1999) {
      std::printf("step %4d  loss %.4f\n", static_cast<int>(step),
                  static_cast<double>(program.view(training.loss).as<float>()[0]));
    }
  }

  // 5. The other entry of the same program, on points it has not seen.
  std::int64_t right = 0;
  constexpr int kTests = 50;
  for (int test = 0; test < kTests; ++test) {
    draw_points(1'000'000 + static_cast<std::uint64_t>(test), x.as<float>(), y.as<std::int64_t>());
    program.run("evaluate", feeds);
    right += program.view(correct).as<std::int64_t>()[0];
  }
  std::printf("accuracy %.3f\n", static_cast<double>(right) / (kTests * kBatch));
}

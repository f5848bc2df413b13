// A network small enough to be trained hundreds of times in a test, on any device.
#pragma once

#include <memory>
#include <vector>

#include "engine/ops.h"
#include "engine/program.h"
#include "tests/cuda/fake_launcher.h"
#include "train/minimize.h"

namespace poolgrad::testing {

inline constexpr std::int64_t kBatch = 6, kWidth = 10, kClasses = 4;

/// A small network, its feeds, and a way to run it anywhere.
struct Network {
  Graph graph;
  Tensor x, labels, loss, correct;
  train::Training training;

  explicit Network(const train::Optimizer& optimizer = train::Adam{.rate = 0.05F},
                   const train::MinimizeOptions& options = {}) {
    x = graph.input({{kBatch, kWidth}}, "x");
    labels = graph.input({{kBatch}, DType::i64}, "labels");
    const auto layer = [&](Tensor in, std::int64_t from, std::int64_t to, const char* name) {
      const Graph::Layer scope(graph, name);
      return linear(in, graph.parameter({to, from}, Init::kaiming_uniform(from, 3), "weight"),
                    graph.parameter({to}, Init::kaiming_uniform(from, 4), "bias"));
    };
    const Tensor hidden = dropout(relu(layer(x, kWidth, 8, "0")), 0.25, 7);
    const Tensor logits = layer(hidden, 8, kClasses, "1");
    loss = softmax_cross_entropy(logits, labels);
    correct = count_correct(logits, labels);
    training = minimize(loss, optimizer, options);
  }

  [[nodiscard]] Program compiled(const Options& options) {
    return compile(graph, {training.entry("train", {correct}), {"evaluate", {loss, correct}}},
                   options);
  }
};

struct Batch {
  std::vector<float> x;
  std::vector<std::int64_t> labels;

  Batch(int step, std::int64_t rows) {
    for (std::int64_t i = 0; i < rows * kWidth; ++i)
      x.push_back(static_cast<float>((i * 7 + step * 13) % 11) / 11.0F - 0.4F);
    for (std::int64_t i = 0; i < rows; ++i) labels.push_back((i + step) % kClasses);
  }
  [[nodiscard]] std::vector<Feed> feeds(const Network& n) const {
    const auto rows = static_cast<std::int64_t>(labels.size());
    return {{n.x, ArrayView::of(std::span(x), {rows, kWidth}, DType::f32)},
            {n.labels, ArrayView::of(std::span(labels), {rows}, DType::i64)}};
  }
};

inline Options on(const std::shared_ptr<FakeLauncher>& launcher) {
  Options options;
  options.launcher = launcher;
  return options;
}

/// The same arithmetic on the CPU.
inline Options on_cpu() {
  Options options;
  options.chunks = 1;
  options.use_team = options.fuse_updates = options.features = options.winograd = false;
  return options;
}

inline float scalar(const Program& program, Tensor tensor) {
  return program.read(tensor).as<float>()[0];
}

}  // namespace poolgrad::testing

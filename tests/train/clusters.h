// A problem small enough to be learned in a moment.
#pragma once

#include <random>
#include <vector>

#include "train/dataset.h"

namespace poolgrad::train {

/// Points around three centres, in four dimensions.
struct Clusters {
  std::vector<float> samples;
  std::vector<std::int64_t> labels;
  Dataset data;

  Clusters(int n, unsigned seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < n; ++i) {
      const int label = i % 3;
      labels.push_back(label);
      for (int axis = 0; axis < 4; ++axis) {
        const float noise = static_cast<float>(random() % 1000) / 1000.0F - 0.5F;
        samples.push_back((axis == label ? 1.0F : 0.0F) + noise);
      }
    }
    data = {ArrayView::of(std::span(samples), {n, 4}, DType::f32),
            ArrayView::of(std::span(labels), {n}, DType::i64), 3};
  }
};

struct Problem {
  Clusters train{100, 1}, test{30, 2};
  Split data{train.data, test.data};
};

}  // namespace poolgrad::train

// The settings of ops whose kernels stand in more than one source. What they mean is said at the
// op; rows `first` are those of the batch that a part begins with.
#pragma once

#include <cmath>

#include "engine/ops.h"

namespace poolgrad::settings {

struct Matmul {
  bool transpose_left = false, transpose_right = false;
  bool relu = false;     // set by fusing
  bool linear = false;   // for the errors: x and weight, not left and right
  bool biased = true;    // a part of the sum over columns of left leaves the bias to the first
  float keep = 1.0F;     // of what the product is added to
  bool by_rate = false;  // subtracted, times a rate, instead of added
  bool operator==(const Matmul&) const = default;
};

struct CountCorrect {
  std::int64_t first = 0;
  bool operator==(const CountCorrect&) const = default;
};

struct SoftmaxCrossEntropy {
  std::int64_t first = 0;
  Reduction reduction = Reduction::mean;
  bool operator==(const SoftmaxCrossEntropy&) const = default;
};

struct GatherRows {
  std::int64_t first = 0;
  Gather how{};
  bool operator==(const GatherRows&) const = default;
};

struct Dropout {
  double p = 0.0;
  std::uint64_t seed = 0;
  std::int64_t node = 0;  // which dropout of the graph
  std::int64_t first = 0;
  bool operator==(const Dropout&) const = default;
};

/// Its `p`, ready for expressions::dropped().
struct DropoutRule {
  std::uint32_t drop;
  float scale;

  explicit DropoutRule(double p)
      : drop(static_cast<std::uint32_t>(std::ceil(p * 16777216.0))),
        scale(p < 1.0 ? static_cast<float>(1.0 / (1.0 - p)) : 0.0F) {}
};

struct MaxPool2d {
  Pool2d pool;
  bool relu = false;  // set by fusing
  bool operator==(const MaxPool2d&) const = default;
};

/// What the shapes at a gradient do not tell: extents of the image or of the kernel.
struct Conv2dGradient {
  Conv2d conv;
  std::int64_t height, width;
  bool operator==(const Conv2dGradient&) const = default;
};

/// Along `axis`, which is not negative: elements [begin, begin + count). concat itself needs the
/// axis alone.
struct Along {
  std::int32_t axis = 0;
  std::int64_t begin = 0, count = 0;
  bool operator==(const Along&) const = default;
};

/// Of batch_norm's nodes that see sums only.
struct Statistics {
  BatchNorm settings;
  std::int64_t rows = 0, pixels = 0;  // rows of a whole batch, pixels of an image
  bool operator==(const Statistics&) const = default;
};

/// Of batch_norm with mean and variance given.
struct Fixed {
  BatchNorm settings;
  bool relu = false;  // set by fusing
  bool operator==(const Fixed&) const = default;
};

}  // namespace poolgrad::settings

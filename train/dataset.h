// Data sets: a column of samples and a column of labels. Nothing is converted here: a step does
// that, row by row, on the way into the arena.
#pragma once

#include <filesystem>

#include "engine/array.h"

namespace poolgrad::train {

/// Samples [n, ...] (u8, which stands for 0 to 1 in steps of 1/255, or f32) and labels [n] (u8, i32
/// or i64) in [0, classes). Both dense and row-major; the views keep what they own alive.
struct Dataset {
  ArrayView samples;
  ArrayView labels;
  std::int64_t classes = 10;

  [[nodiscard]] std::int64_t count() const { return labels.shape[0]; }
  /// [1, h, w] for images [n, h, w], else the extents after the first.
  [[nodiscard]] Shape sample_shape() const;
};

/// Throws ShapeError when samples and labels differ in number or are not dense, ArgumentError for a
/// dtype that is none of the above and for a label outside [0, classes), saying where. `name`
/// begins the message.
void check(const Dataset& data, std::string_view name);

/// What a model learns from, and what it is measured on.
struct Split {
  Dataset train, test;
};

/// Where Debian's package dataset-fashion-mnist puts its files.
inline constexpr const char* kFashionMnist = "/usr/share/datasets/fashion-mnist";

/// MNIST or a relative of it: train-images-idx3-ubyte, train-labels-idx1-ubyte, and the same with
/// t10k, each with or without .gz. Throws FileError naming the file and what to do.
[[nodiscard]] Split read_mnist(const std::filesystem::path& folder);

}  // namespace poolgrad::train

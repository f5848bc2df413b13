// The body that turns matrices over. For .cu files.
#pragma once

#include <cstdint>

#include "engine/cuda/both.h"

namespace poolgrad::cuda {

/// to [images, columns, rows] = from [images, rows, columns], by the element of `to`.
template <typename Word>
struct Turn {
  const Word* from;
  Word* to;
  std::int64_t rows, columns;

  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const std::int64_t size = rows * columns, image = i / size, at = i % size;
    to[i] = from[image * size + at % rows * columns + at / rows];
  }
};

}  // namespace poolgrad::cuda

// Windows that a pooling op moves over an image, channels-last.
#pragma once

#include <algorithm>

#include "engine/cuda/both.h"
#include "engine/ops.h"
#include "engine/ops/check.h"

namespace poolgrad {

/// Extents of x [n, c, h, w] and y [n, c, oh, ow], and what lies between them.
struct Windows {
  std::int64_t n, c, h, w, oh, ow;
  std::int64_t size_h, size_w, stride_h, stride_w, padding_h, padding_w;

  Windows(const Shape& x, const Shape& y, const Pool2d& s)
      : n(x[0]),
        c(x[1]),
        h(x[2]),
        w(x[3]),
        oh(y[2]),
        ow(y[3]),
        size_h(s.size[0]),
        size_w(s.size[1]),
        stride_h(s.stride[0]),
        stride_w(s.stride[1]),
        padding_h(s.padding[0]),
        padding_w(s.padding[1]) {}

  /// Every value of x is in exactly one window.
  [[nodiscard]] bool tile() const {
    return size_h == stride_h && size_w == stride_w && padding_h == 0 && padding_w == 0 &&
           oh * size_h == h && ow * size_w == w;
  }
};

/// The part of one window that lies inside the image: [begin, end) of each axis of x, and the place
/// of its first row and column in the window.
struct Window {
  std::int64_t row, row_end, column, column_end, first_h, first_w;

  [[gnu::always_inline]] POOLGRAD_BOTH Window(const Windows& s, std::int64_t oy, std::int64_t ox)
      : row(std::max<std::int64_t>(oy * s.stride_h - s.padding_h, 0)),
        row_end(std::min(oy * s.stride_h - s.padding_h + s.size_h, s.h)),
        column(std::max<std::int64_t>(ox * s.stride_w - s.padding_w, 0)),
        column_end(std::min(ox * s.stride_w - s.padding_w + s.size_w, s.w)),
        first_h(row - (oy * s.stride_h - s.padding_h)),
        first_w(column - (ox * s.stride_w - s.padding_w)) {}
};

/// The gradient of a pooling op: its settings, and the image's extents, which dy does not tell.
struct PoolGradient {
  Pool2d pool;
  std::int64_t h, w;
  bool operator==(const PoolGradient&) const = default;
};

/// The shape of y. `most`: no window may have more rows or columns; 0: no limit.
Shape pooled(std::string_view op, const Spec& x, const Pool2d& settings, std::int32_t most);

}  // namespace poolgrad

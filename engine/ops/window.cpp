// What pooling ops check.
#include "engine/ops/window.h"

namespace poolgrad {

Shape pooled(std::string_view op, const Spec& x, const Pool2d& s, std::int32_t most) {
  check_image(op, "x", x);
  check_setting(op, "size", s.size, 1);
  check_setting(op, "stride", s.stride, 1);
  check_setting(op, "padding", s.padding, 0);
  Shape y = x.shape;
  for (std::size_t i = 0; i < 2; ++i) {
    if (most > 0 && s.size[i] > most) {
      throw ArgumentError(text(op, ": size [", s.size[0], ", ", s.size[1], "] is above ", most,
                               "; pool twice with smaller windows"));
    }
    if (2 * s.padding[i] > s.size[i]) {
      throw ArgumentError(text(op, ": padding [", s.padding[0], ", ", s.padding[1],
                               "] is more than half of size [", s.size[0], ", ", s.size[1],
                               "]; pad less"));
    }
    const int axis = static_cast<int>(i) + 2;
    y[axis] = windows_along(op, axis, x.shape, s.size[i], s.stride[i], s.padding[i]);
  }
  return y;
}

}  // namespace poolgrad

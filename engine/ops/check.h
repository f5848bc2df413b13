// Checks that several ops share; each throws ShapeError or ArgumentError with the op's name.
#pragma once

#include "engine/op.h"

namespace poolgrad {

/// "relu: x is float64; kernels take float32, convert it first".
void check_f32(std::string_view op, std::string_view operand, const Spec& spec);

/// An image is [n, c, h, w] of f32.
void check_image(std::string_view op, std::string_view operand, const Spec& spec);

/// A setting by height and width is at least `least`.
void check_setting(std::string_view op, std::string_view setting,
                   const std::array<std::int32_t, 2>& value, std::int32_t least);

/// Logits [n, k] of f32 and labels [n] of i64.
void check_classes(std::string_view op, const Spec& logits, const Spec& labels);

/// While a program runs: `label` is in [0, classes).
inline void check_label(std::string_view op, std::int64_t row, std::int64_t label,
                        std::int64_t classes) {
  if (label < 0 || label >= classes) [[unlikely]] {
    throw ArgumentError(text(op, ": label ", label, " in row ", row, " is not in [0, ", classes,
                             "); use labels from 0 to ", classes - 1));
  }
}

/// How many windows fit along an axis: (extent + 2·padding − span) / stride + 1, rounded down.
/// Throws ShapeError where none does.
std::int64_t windows_along(std::string_view op, int axis, const Shape& x, std::int64_t span,
                           std::int64_t stride, std::int64_t padding);

}  // namespace poolgrad

// Checks that several ops share.
#include "engine/ops/check.h"

namespace poolgrad {

void check_f32(std::string_view op, std::string_view operand, const Spec& spec) {
  if (spec.dtype != DType::f32) {
    throw ShapeError(text(op, ": ", operand, " ", spec.shape, " is ", spec.dtype,
                          "; kernels take float32, convert it first"));
  }
}

void check_image(std::string_view op, std::string_view operand, const Spec& spec) {
  if (spec.shape.rank() != 4) {
    throw ShapeError(text(op, ": ", operand, " ", spec.shape, " has ", spec.shape.rank(),
                          " axes; reshape it to [batch, channels, height, width]"));
  }
  check_f32(op, operand, spec);
}

void check_setting(std::string_view op, std::string_view setting,
                   const std::array<std::int32_t, 2>& value, std::int32_t least) {
  if (value[0] < least || value[1] < least) {
    throw ArgumentError(
        text(op, ": ", setting, " [", value[0], ", ", value[1], "] must be at least ", least));
  }
}

void check_classes(std::string_view op, const Spec& logits, const Spec& labels) {
  if (logits.shape.rank() != 2) {
    throw ShapeError(text(op, ": logits ", logits.shape, " must be [rows, classes]; reshape them"));
  }
  check_f32(op, "logits", logits);
  if (labels != Spec{{logits.shape[0]}, DType::i64}) {
    throw ShapeError(text(op, ": logits ", logits.shape, " need labels [", logits.shape[0],
                          "] of int64, not ", labels.shape, " of ", labels.dtype));
  }
}

std::int64_t windows_along(std::string_view op, int axis, const Shape& x, std::int64_t span,
                           std::int64_t stride, std::int64_t padding) {
  const std::int64_t padded = x[axis] + 2 * padding;
  if (span > padded) {
    const std::string_view lines = axis == 2 ? "rows" : "columns";
    throw ShapeError(text(op, ": windows span ", span, " ", lines, " but x ", x, " has ", padded,
                          " with padding ", padding, "; pad more or make windows smaller"));
  }
  return (padded - span) / stride + 1;
}

}  // namespace poolgrad

// Kernels around kernels: what is read is made wider, what is written is rounded, in any shape.
#include "engine/backend/halves.h"

#include <numeric>

#include <doctest/doctest.h>

#include "engine/half.h"
#include "engine/ops.h"
#include "engine/ops/relu.h"
#include "tests/engine/ops/evaluate.h"

namespace poolgrad {
namespace {

using testing::Value;

Value halves_of(const Shape& shape, unsigned seed) {
  Value result({shape, DType::bf16});
  const std::vector<float> values = testing::spread(shape.count(), seed);
  halves::narrow(DType::bf16, values.data(), result.bytes.data(), shape.count());
  return result;
}

Kernel around(const OpDef& op, const std::vector<Spec>& inputs, const std::vector<Spec>& outputs) {
  const Attributes none;
  return halves::kernel(op, {inputs, outputs, none}, [&](const Site& wide) {
    for (const Spec& spec : wide.inputs) CHECK(!is_half(spec.dtype));
    return op.cpu(wide);
  });
}

TEST_CASE("halves: a kernel for f32 does an op on halves, also on columns of a matrix") {
  const Value y = halves_of({6, 10}, 1), dy = halves_of({6, 10}, 2);
  const auto expected = [&](std::int64_t row, std::int64_t column) {
    const auto i = static_cast<std::size_t>(row * 10 + column);
    bf16 value;
    value.bits = y.as<std::uint16_t>()[i];
    return value > 0.0F ? dy.as<std::uint16_t>()[i] : std::uint16_t{0};
  };
  const Value right = y.columns(3, 7), of_dy = dy.columns(3, 7);
  REQUIRE(right.spec.pitch == 10);
  const Spec dense{{6, 4}, DType::bf16};
  const auto made = testing::run_kernel(around(kReluGrad, {right.spec, of_dy.spec}, {dense}),
                                        {right, of_dy}, {dense});
  for (std::int64_t row = 0; row < 6; ++row) {
    for (std::int64_t column = 0; column < 4; ++column)
      CHECK(made[0].as<std::uint16_t>()[static_cast<std::size_t>(row * 4 + column)] ==
            expected(row, column + 3));
  }
}

TEST_CASE("halves: an output that may take an input's bytes takes its floats too") {
  const Spec half{{64}, DType::f16}, wide{{64}};
  CHECK(around(kRelu, {half}, {half}).workspace_bytes == 256);
  CHECK(around(kRelu, {half}, {wide}).workspace_bytes == 256);  // f32 are written where they stay
  CHECK(around(kAdd, {half, half}, {half}).workspace_bytes == 512);
}

}  // namespace
}  // namespace poolgrad

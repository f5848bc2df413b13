// cast: the same values as f32, f16 or bf16. From one half to the other by way of f32, block by
// block.
#include <algorithm>
#include <array>
#include <cstring>

#include "engine/backend/halves.h"
#include "engine/cuda/kernels.h"
#include "engine/ops.h"

namespace poolgrad {
namespace {

bool is_float(DType dtype) { return dtype == DType::f32 || is_half(dtype); }

std::vector<Spec> cast_infer(const Site& site) {
  Spec y = site.inputs[0];
  const auto dtype = site.attributes.as<DType>();
  if (!is_float(y.dtype) || !is_float(dtype)) {
    throw ShapeError(text("cast: ", y.dtype, " does not become ", dtype,
                          "; float32, float16 and bfloat16 become each other"));
  }
  y.dtype = dtype;
  y.pitch = 0;
  return {y};
}

void convert(DType from, const std::byte* x, DType to, std::byte* y, std::int64_t count) {
  const auto* floats = reinterpret_cast<const float*>(x);
  if (from == to) {
    std::memcpy(y, x, static_cast<std::size_t>(count) * size_of(to));
  } else if (from == DType::f32) {
    halves::narrow(to, floats, y, count);
  } else if (to == DType::f32) {
    halves::widen(from, x, reinterpret_cast<float*>(y), count);
  } else {
    constexpr std::int64_t kBlock = 256;
    std::array<float, kBlock> between;
    for (std::int64_t i = 0; i < count; i += kBlock) {
      const std::int64_t n = std::min(kBlock, count - i);
      halves::widen(from, x + i * 2, between.data(), n);
      halves::narrow(to, between.data(), y + i * 2, n);
    }
  }
}

Kernel cast_cpu(const Site& site) {
  const Spec &x = site.inputs[0], &y = site.outputs[0];
  const auto bytes = [](const Spec& spec) {
    return static_cast<std::int64_t>(size_of(spec.dtype));
  };
  return {[stretches = Stretches{&x, &y}, from = x.dtype, to = y.dtype, x_bytes = bytes(x),
           y_bytes = bytes(y)](const Args& a) {
    stretches.each([&](std::int64_t count, const auto& at) {
      convert(from, a.in<std::byte>(0) + at[0] * x_bytes, to, a.out<std::byte>() + at[1] * y_bytes,
              count);
    });
  }};
}

constexpr OpDef kCast{
    .name = "cast",
    .infer = cast_infer,
    .backward = [](const Backward& b) -> std::vector<Tensor> {
      return {cast(b.dy[0], b.inputs[0].spec().dtype)};
    },
    .any_dtype = true,
    .cuts = elementwise<1>,
    .cpu = cast_cpu,
    .cuda = kCuda ? cuda::cast : nullptr,
};

}  // namespace

Tensor cast(Tensor x, DType dtype) {
  if (x.spec().dtype == dtype) return x;
  return x.graph->add(kCast, {x}, dtype)[0];
}

}  // namespace poolgrad

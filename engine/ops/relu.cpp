// relu: y = max(x, 0), elementwise, any shape. NaN stays NaN.
#include "engine/ops/relu.h"

#include "engine/backend/loops.h"
#include "engine/cuda/kernels.h"
#include "engine/ops.h"
#include "engine/ops/check.h"
#include "engine/ops/expressions.h"

namespace poolgrad {
namespace {

POOLGRAD_CLONES
void relu_forward(const float* x, float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = expressions::relu(x[i]);
}

POOLGRAD_CLONES
void relu_backward(const float* y, const float* dy, float* dx, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) dx[i] = expressions::relu_grad(y[i], dy[i]);
}

constexpr std::int64_t kBits = 8;

/// Rows that are as many values and, in signs, as many bytes.
struct SignRows {
  std::int64_t rows, values, bytes;

  explicit SignRows(const Spec& y)
      : rows(y.shape.rank() == 0 ? 1 : y.shape[0]),
        values(y.shape.count() / rows),
        bytes((values + kBits - 1) / kBits) {}
};

POOLGRAD_CLONES
void signs_of(const SignRows& s, const float* y, std::uint8_t* signs) {
  for (std::int64_t row = 0; row < s.rows; ++row, y += s.values, signs += s.bytes) {
    const std::int64_t full = s.values / kBits;
    for (std::int64_t i = 0; i < full; ++i) {
      unsigned bits = 0;
      for (unsigned k = 0; k < kBits; ++k)
        bits |= static_cast<unsigned>(y[i * kBits + k] > 0.0F) << k;
      signs[i] = static_cast<std::uint8_t>(bits);
    }
    if (full == s.bytes) continue;
    unsigned bits = 0;
    for (std::int64_t i = full * kBits; i < s.values; ++i)
      bits |= static_cast<unsigned>(y[i] > 0.0F) << (i % kBits);
    signs[full] = static_cast<std::uint8_t>(bits);
  }
}

POOLGRAD_CLONES
void backward_by_signs(const SignRows& s, const std::uint8_t* signs, const float* dy, float* dx) {
  for (std::int64_t row = 0; row < s.rows;
       ++row, signs += s.bytes, dy += s.values, dx += s.values) {
    const std::int64_t full = s.values / kBits;
    for (std::int64_t i = 0; i < full; ++i) {
      const unsigned bits = signs[i];
      for (unsigned k = 0; k < kBits; ++k)
        dx[i * kBits + k] = (bits >> k & 1U) != 0 ? dy[i * kBits + k] : 0.0F;
    }
    for (std::int64_t i = full * kBits; i < s.values; ++i)
      dx[i] = (signs[i / kBits] >> (i % kBits) & 1U) != 0 ? dy[i] : 0.0F;
  }
}

std::vector<Spec> relu_infer(const Site& site) {
  check_f32("relu", "x", site.inputs[0]);
  return {site.inputs[0]};
}

Kernel relu_cpu(const Site& site) {
  return {[count = site.outputs[0].shape.count()](const Args& a) {
    relu_forward(a.in<float>(0), a.out<float>(), count);
  }};
}

Kernel relu_grad_cpu(const Site& site) {
  const Stretches stretches{&site.inputs[0], &site.inputs[1], &site.outputs[0]};
  return {[stretches](const Args& a) {
    stretches.each([&](std::int64_t count, const auto& at) {
      relu_backward(a.in<float>(0) + at[0], a.in<float>(1) + at[1], a.out<float>() + at[2], count);
    });
  }};
}

std::vector<Spec> relu_signs_infer(const Site& site) {
  const SignRows s(site.inputs[0]);
  return {{Shape{s.rows, s.bytes}, DType::u8}};
}

Kernel relu_signs_cpu(const Site& site) {
  return {[s = SignRows(site.inputs[0])](const Args& a) {
    signs_of(s, a.in<float>(0), a.out<std::uint8_t>());
  }};
}

Kernel relu_grad_by_signs_cpu(const Site& site) {
  return {[s = SignRows(site.inputs[1])](const Args& a) {
    backward_by_signs(s, a.in<std::uint8_t>(0), a.in<float>(1), a.out<float>());
  }};
}

}  // namespace

constexpr OpDef kReluGrad{
    .name = "relu_grad",  // y, dy -> dx
    .infer = same_as_first,
    .overwrites = 1,
    .cuts = elementwise<2>,
    .cpu = relu_grad_cpu,
    .cuda = kCuda ? cuda::relu_grad : nullptr,
};

constexpr OpDef kReluSigns{
    .name = "relu_signs",  // y -> signs
    .infer = relu_signs_infer,
    .cuts = row_by_row<1>,
    .cpu = relu_signs_cpu,
};

constexpr OpDef kReluGradBySigns{
    .name = "relu_grad_by_signs",  // signs, dy -> dx
    .infer = [](const Site& site) -> std::vector<Spec> { return {site.inputs[1]}; },
    .overwrites = 1,
    .cuts = row_by_row<2>,
    .cpu = relu_grad_by_signs_cpu,
};

constexpr OpDef kRelu{
    .name = "relu",
    .infer = relu_infer,
    .backward = [](const Backward& b) -> std::vector<Tensor> {
      // Needs y, not x: so x's bytes are free for y.
      return {relu_grad(b.outputs[0], b.dy[0])};
    },
    .overwrites = 0,
    .cuts = row_by_row<1>,
    .cpu = relu_cpu,
    .cuda = kCuda ? cuda::relu : nullptr,
};

Tensor relu(Tensor x) { return x.graph->add(kRelu, {x})[0]; }

Tensor relu_grad(Tensor y, Tensor dy) { return y.graph->add(kReluGrad, {y, dy})[0]; }

Tensor relu_signs(Tensor y) { return y.graph->add(kReluSigns, {y})[0]; }

Tensor relu_grad_by_signs(Tensor signs, Tensor dy) {
  return dy.graph->add(kReluGradBySigns, {signs, dy})[0];
}

}  // namespace poolgrad

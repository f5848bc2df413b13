// relu: y = max(x, 0), elementwise, any shape. NaN stays NaN.
#include "engine/ops/relu.h"

#include "engine/backend/loops.h"
#include "engine/ops.h"
#include "engine/ops/check.h"

namespace poolgrad {
namespace {

POOLGRAD_CLONES
void relu_forward(const float* x, float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] < 0.0F ? 0.0F : x[i];
}

POOLGRAD_CLONES
void relu_backward(const float* y, const float* dy, float* dx, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) dx[i] = y[i] > 0.0F ? dy[i] : 0.0F;
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

constexpr OpDef kReluGrad{
    .name = "relu_grad",  // y, dy -> dx
    .infer = same_as_first,
    .overwrites = 1,
    .cuts = elementwise<2>,
    .cpu = relu_grad_cpu,
};

}  // namespace

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
};

Tensor relu(Tensor x) { return x.graph->add(kRelu, {x})[0]; }

Tensor relu_grad(Tensor y, Tensor dy) { return y.graph->add(kReluGrad, {y, dy})[0]; }

}  // namespace poolgrad

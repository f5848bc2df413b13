// sgd: one step of stochastic gradient descent in place, with or without momentum.
#include "engine/backend/loops.h"
#include "train/expressions.h"
#include "train/updates.h"

namespace poolgrad::train {
namespace {

POOLGRAD_CLONES
void descend(float* __restrict w, const float* __restrict g, std::int64_t n, float rate,
             float decay) {
  for (std::int64_t i = 0; i < n; ++i) expressions::descend(w[i], g[i], rate, decay);
}

POOLGRAD_CLONES
void descend_with_momentum(float* __restrict w, float* __restrict m, const float* __restrict g,
                           std::int64_t n, float rate, float decay, float momentum) {
  for (std::int64_t i = 0; i < n; ++i)
    expressions::descend_with_momentum(w[i], m[i], g[i], rate, decay, momentum);
}

POOLGRAD_CLONES
void descend_with_nesterov(float* __restrict w, float* __restrict m, const float* __restrict g,
                           std::int64_t n, float rate, float decay, float momentum) {
  for (std::int64_t i = 0; i < n; ++i)
    expressions::descend_with_nesterov(w[i], m[i], g[i], rate, decay, momentum);
}

Kernel sgd_cpu(const Site& site) {
  const Stretches stretches{&site.inputs[0], &site.inputs[1]};
  const ScaledGradient scaled(site, 3);
  return {[stretches, scaled, s = site.attributes.as<Sgd>()](const Args& a) {
    if (scaled.skips(a)) return;
    stretches.each([&](std::int64_t n, const auto& at) {
      float* const w = a.out<float>() + at[0];
      const auto some = [&](std::int64_t begin, std::int64_t count, const float* g) {
        descend(w + begin, g, count, *a.in<float>(2), s.weight_decay);
      };
      scaled.each(a, a.in<float>(1) + at[1], n, some);
    });
  }};
}

Kernel momentum_cpu(const Site& site) {
  const Sgd settings = site.attributes.as<Sgd>();
  const auto loop = settings.nesterov ? descend_with_nesterov : descend_with_momentum;
  const Stretches stretches{&site.inputs[0], &site.inputs[1], &site.inputs[2]};
  const ScaledGradient scaled(site, 4);
  return {[stretches, scaled, settings, loop](const Args& a) {
    if (scaled.skips(a)) return;
    stretches.each([&](std::int64_t n, const auto& at) {
      float *const w = a.out<float>(0) + at[0], *const m = a.out<float>(1) + at[1];
      const auto some = [&](std::int64_t begin, std::int64_t count, const float* g) {
        loop(w + begin, m + begin, g, count, *a.in<float>(3), settings.weight_decay,
             settings.momentum);
      };
      scaled.each(a, a.in<float>(2) + at[2], n, some);
    });
  }};
}

/// w −= rate · gradient, on the weight itself.
std::vector<Node> sgd_with_maker(const Node& self, const Node& maker) {
  if (self.attributes.as<Sgd>().weight_decay != 0.0F || self.inputs.size() > 3) return {};
  return {on_top(maker, self.inputs[0], 1.0F, self.inputs[2], self.outputs[0])};
}

constexpr OpDef kSgd{
    .name = "sgd",  // weight, gradient, rate, perhaps a GradScale -> weight
    .infer = [](const Site& site) -> std::vector<Spec> {
      check_same_shapes("sgd", site, 2);
      return {site.inputs[0]};
    },
    .updates = 1,
    .cuts = elementwise<2>,
    .gradient = 1,
    .with_maker = sgd_with_maker,
    .cpu = sgd_cpu,
    .cuda = kCuda ? sgd_cuda : nullptr,
};

/// m = momentum · m + gradient on the momentum itself, then w −= rate · m.
std::vector<Node> momentum_with_maker(const Node& self, const Node& maker) {
  const auto s = self.attributes.as<Sgd>();
  if (s.weight_decay != 0.0F || s.nesterov || self.inputs.size() > 4) return {};
  const int weight = self.inputs[0], rate = self.inputs[3], momentum = self.outputs[1];
  return {on_top(maker, self.inputs[1], s.momentum, {}, momentum),
          {&kSgd, Sgd{.rate = 0.0F}, {weight, momentum, rate}, {self.outputs[0]}}};
}

constexpr OpDef kSgdMomentum{
    .name = "sgd_momentum",  // weight, momentum, gradient, rate, perhaps a GradScale -> the first 2
    .infer = [](const Site& site) -> std::vector<Spec> {
      check_same_shapes("sgd", site, 3);
      return {site.inputs[0], site.inputs[1]};
    },
    .updates = 2,
    .cuts = elementwise<3, 2>,
    .gradient = 2,
    .with_maker = momentum_with_maker,
    .cpu = momentum_cpu,
    .cuda = kCuda ? sgd_momentum_cuda : nullptr,
};

}  // namespace

void check_same_shapes(std::string_view op, const Site& site, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    if (site.inputs[i].dtype != DType::f32)
      throw ShapeError(text(op, ": input ", i, " is ", site.inputs[i].dtype, "; make it float32"));
    if (site.inputs[i].shape == site.inputs[0].shape) continue;
    throw ShapeError(text(op, ": weight ", site.inputs[0].shape, " but input ", i, " is ",
                          site.inputs[i].shape, "; weight, moments and gradient have one shape"));
  }
}

std::vector<Tensor> with_scale(std::vector<Tensor> inputs, const GradScale& scale) {
  if (scale.factor) inputs.insert(inputs.end(), {scale.factor, scale.found_inf});
  return inputs;
}

Tensor sgd(Tensor weight, Tensor momentum, Tensor gradient, Tensor rate, const Sgd& settings,
           const GradScale& scale) {
  Sgd attributes = settings;
  attributes.rate = 0.0F;  // is a tensor, so that equal shapes share a kernel whatever the rate
  Graph& graph = *weight.graph;
  if (!momentum) return graph.add(kSgd, with_scale({weight, gradient, rate}, scale), attributes)[0];
  return graph.add(kSgdMomentum, with_scale({weight, momentum, gradient, rate}, scale),
                   attributes)[0];
}

}  // namespace poolgrad::train

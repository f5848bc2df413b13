// sgd: one step of stochastic gradient descent in place, with or without momentum.
#include "engine/backend/loops.h"
#include "train/updates.h"

namespace poolgrad::train {
namespace {

POOLGRAD_CLONES
void descend(float* __restrict w, const float* __restrict g, std::int64_t n, float rate,
             float decay) {
  for (std::int64_t i = 0; i < n; ++i) w[i] -= rate * (g[i] + decay * w[i]);
}

POOLGRAD_CLONES
void descend_with_momentum(float* __restrict w, float* __restrict m, const float* __restrict g,
                           std::int64_t n, float rate, float decay, float momentum) {
  for (std::int64_t i = 0; i < n; ++i) {
    m[i] = momentum * m[i] + (g[i] + decay * w[i]);
    w[i] -= rate * m[i];
  }
}

POOLGRAD_CLONES
void descend_with_nesterov(float* __restrict w, float* __restrict m, const float* __restrict g,
                           std::int64_t n, float rate, float decay, float momentum) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float slope = g[i] + decay * w[i];
    m[i] = momentum * m[i] + slope;
    w[i] -= rate * (slope + momentum * m[i]);
  }
}

Kernel sgd_cpu(const Site& site) {
  return {[n = site.inputs[0].shape.count(), s = site.attributes.as<Sgd>()](const Args& a) {
    descend(a.out<float>(), a.in<float>(1), n, *a.in<float>(2), s.weight_decay);
  }};
}

Kernel momentum_cpu(const Site& site) {
  const Sgd settings = site.attributes.as<Sgd>();
  const auto loop = settings.nesterov ? descend_with_nesterov : descend_with_momentum;
  return {[n = site.inputs[0].shape.count(), settings, loop](const Args& a) {
    loop(a.out<float>(0), a.out<float>(1), a.in<float>(2), n, *a.in<float>(3),
         settings.weight_decay, settings.momentum);
  }};
}

constexpr OpDef kSgd{
    .name = "sgd",  // weight, gradient, rate -> weight
    .infer = [](const Site& site) -> std::vector<Spec> {
      check_same_shapes("sgd", site, 2);
      return {site.inputs[0]};
    },
    .updates = 1,
    .cuts = row_by_row<2>,
    .cpu = sgd_cpu,
};

constexpr OpDef kSgdMomentum{
    .name = "sgd_momentum",  // weight, momentum, gradient, rate -> weight, momentum
    .infer = [](const Site& site) -> std::vector<Spec> {
      check_same_shapes("sgd", site, 3);
      return {site.inputs[0], site.inputs[1]};
    },
    .updates = 2,
    .cuts = row_by_row<3, 2>,
    .cpu = momentum_cpu,
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

Tensor sgd(Tensor weight, Tensor momentum, Tensor gradient, Tensor rate, const Sgd& settings) {
  Sgd attributes = settings;
  attributes.rate = 0.0F;  // is a tensor, so that equal shapes share a kernel whatever the rate
  if (!momentum) return weight.graph->add(kSgd, {weight, gradient, rate}, attributes)[0];
  return weight.graph->add(kSgdMomentum, {weight, momentum, gradient, rate}, attributes)[0];
}

}  // namespace poolgrad::train

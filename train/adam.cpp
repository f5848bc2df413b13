// adam, adamw: one step in place, both moments with it; and tick, which counts the steps.
#include "engine/backend/loops.h"
#include "train/expressions.h"
#include "train/updates.h"

namespace poolgrad::train {
namespace {

using expressions::AdamCoefficients;

POOLGRAD_CLONES
void descend(float* __restrict w, float* __restrict m, float* __restrict v,
             const float* __restrict g, std::int64_t n, const AdamCoefficients& coefficients) {
  const AdamCoefficients c = coefficients;
  for (std::int64_t i = 0; i < n; ++i) expressions::adam(w[i], m[i], v[i], g[i], c);
}

template <typename Settings>
Kernel adam_cpu(const Site& site) {
  const Stretches stretches{&site.inputs[0], &site.inputs[1], &site.inputs[2], &site.inputs[3]};
  const ScaledGradient scaled(site, 6);
  return {[stretches, scaled, s = site.attributes.as<Settings>()](const Args& a) {
    if (scaled.skips(a)) return;
    const AdamCoefficients now =
        expressions::adam_at_step(s, *a.in<float>(4), *a.in<std::int64_t>(5));
    stretches.each([&](std::int64_t n, const auto& at) {
      float *const w = a.out<float>(0) + at[0], *const m = a.out<float>(1) + at[1],
                   *const v = a.out<float>(2) + at[2];
      const auto some = [&](std::int64_t begin, std::int64_t count, const float* g) {
        descend(w + begin, m + begin, v + begin, g, count, now);
      };
      scaled.each(a, a.in<float>(3) + at[3], n, some);
    });
  }};
}

std::vector<Spec> infer(const Site& site) {
  check_same_shapes("adam", site, 4);
  return {site.inputs[0], site.inputs[1], site.inputs[2]};
}

constexpr OpDef kAdam{
    .name = "adam",  // weight, first, second, gradient, rate, step, perhaps a GradScale -> 3
    .infer = infer,
    .updates = 3,
    .cuts = elementwise<4, 3>,
    .cpu = adam_cpu<Adam>,
    .cuda = kCuda ? adam_cuda : nullptr,
};

constexpr OpDef kAdamW{
    .name = "adamw",
    .infer = infer,
    .updates = 3,
    .cuts = elementwise<4, 3>,
    .cpu = adam_cpu<AdamW>,
    .cuda = kCuda ? adamw_cuda : nullptr,
};

constexpr OpDef kTick{
    .name = "tick",  // step, perhaps found_inf -> step
    .infer = same_as_first,
    .updates = 1,
    .cpu = [](const Site& site) -> Kernel {
      return {[may_skip = site.inputs.size() > 1](const Args& a) {
        if (!may_skip || *a.in<float>(1) == 0.0F) ++*a.out<std::int64_t>();
      }};
    },
    .cuda = kCuda ? tick_cuda : nullptr,
};

}  // namespace

Tensor adam(Tensor weight, Tensor first, Tensor second, Tensor gradient, Tensor rate, Tensor step,
            const Adam& settings, const GradScale& scale) {
  Adam attributes = settings;
  attributes.rate = 0.0F;  // is a tensor
  return weight.graph->add(kAdam, with_scale({weight, first, second, gradient, rate, step}, scale),
                           attributes)[0];
}

Tensor adamw(Tensor weight, Tensor first, Tensor second, Tensor gradient, Tensor rate, Tensor step,
             const AdamW& settings, const GradScale& scale) {
  AdamW attributes = settings;
  attributes.rate = 0.0F;
  return weight.graph->add(kAdamW, with_scale({weight, first, second, gradient, rate, step}, scale),
                           attributes)[0];
}

Tensor tick(Tensor step, Tensor found_inf) {
  std::vector<Tensor> inputs{step};
  if (found_inf) inputs.push_back(found_inf);
  return step.graph->add(kTick, inputs)[0];
}

}  // namespace poolgrad::train

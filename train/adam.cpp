// adam, adamw: one step in place, both moments with it; and tick, which counts the steps.
#include <cmath>

#include "engine/backend/loops.h"
#include "train/updates.h"

namespace poolgrad::train {
namespace {

/// What both optimizers do to one column: settings, and what follows from the step number.
struct Coefficients {
  float shrink = 1.0F;              // w *= shrink first: decoupled weight decay
  float decay = 0.0F;               // gradient += decay · w
  float new1 = 0.0F;                // 1 - beta1
  float keep2 = 0.0F, new2 = 0.0F;  // beta2, 1 - beta2
  float size = 0.0F;                // rate / (1 - beta1^t)
  float root = 0.0F;                // 1 / sqrt(1 - beta2^t)
  float epsilon = 0.0F;
};

POOLGRAD_CLONES
void descend(float* __restrict w, float* __restrict m, float* __restrict v,
             const float* __restrict g, std::int64_t n, const Coefficients& coefficients) {
  const Coefficients c = coefficients;
  for (std::int64_t i = 0; i < n; ++i) {
    const float weight = c.shrink * w[i];
    const float slope = g[i] + c.decay * weight;
    m[i] += c.new1 * (slope - m[i]);
    v[i] = c.keep2 * v[i] + c.new2 * slope * slope;
    w[i] = weight - c.size * m[i] / (std::sqrt(v[i]) * c.root + c.epsilon);
  }
}

/// In f64, once per call: beta2^t is close to 1 for the first thousand steps.
template <typename Settings>
Coefficients at_step(const Settings& s, float rate, std::int64_t steps_done) {
  const auto t = static_cast<double>(steps_done + 1);
  Coefficients c;
  if constexpr (std::is_same_v<Settings, AdamW>) {
    c.shrink = static_cast<float>(1.0 - static_cast<double>(rate) * s.weight_decay);
  } else {
    c.decay = s.weight_decay;
  }
  c.new1 = static_cast<float>(1.0 - s.beta1);
  c.keep2 = static_cast<float>(s.beta2);
  c.new2 = static_cast<float>(1.0 - s.beta2);
  c.size = static_cast<float>(rate / (1.0 - std::pow(s.beta1, t)));
  c.root = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(s.beta2, t)));
  c.epsilon = s.epsilon;
  return c;
}

template <typename Settings>
Kernel adam_cpu(const Site& site) {
  const Stretches stretches{&site.inputs[0], &site.inputs[1], &site.inputs[2], &site.inputs[3]};
  return {[stretches, s = site.attributes.as<Settings>()](const Args& a) {
    const Coefficients now = at_step(s, *a.in<float>(4), *a.in<std::int64_t>(5));
    stretches.each([&](std::int64_t n, const auto& at) {
      descend(a.out<float>(0) + at[0], a.out<float>(1) + at[1], a.out<float>(2) + at[2],
              a.in<float>(3) + at[3], n, now);
    });
  }};
}

std::vector<Spec> infer(const Site& site) {
  check_same_shapes("adam", site, 4);
  return {site.inputs[0], site.inputs[1], site.inputs[2]};
}

constexpr OpDef kAdam{
    .name = "adam",  // weight, first, second, gradient, rate, step -> weight, first, second
    .infer = infer,
    .updates = 3,
    .cuts = elementwise<4, 3>,
    .cpu = adam_cpu<Adam>,
};

constexpr OpDef kAdamW{
    .name = "adamw",
    .infer = infer,
    .updates = 3,
    .cuts = elementwise<4, 3>,
    .cpu = adam_cpu<AdamW>,
};

constexpr OpDef kTick{
    .name = "tick",
    .infer = same_as_first,
    .updates = 1,
    .cpu = [](const Site&) -> Kernel { return {[](const Args& a) { ++*a.out<std::int64_t>(); }}; },
};

}  // namespace

Tensor adam(Tensor weight, Tensor first, Tensor second, Tensor gradient, Tensor rate, Tensor step,
            const Adam& settings) {
  Adam attributes = settings;
  attributes.rate = 0.0F;  // is a tensor
  return weight.graph->add(kAdam, {weight, first, second, gradient, rate, step}, attributes)[0];
}

Tensor adamw(Tensor weight, Tensor first, Tensor second, Tensor gradient, Tensor rate, Tensor step,
             const AdamW& settings) {
  AdamW attributes = settings;
  attributes.rate = 0.0F;
  return weight.graph->add(kAdamW, {weight, first, second, gradient, rate, step}, attributes)[0];
}

Tensor tick(Tensor step) { return step.graph->add(kTick, {step})[0]; }

}  // namespace poolgrad::train

// What optimizers do to one value: the expressions that the CPU's loops and CUDA's kernels share.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "engine/ops/expressions.h"
#include "train/optimizer.h"

namespace poolgrad::train::expressions {

POOLGRAD_EXPRESSION void descend(float& w, float g, float rate, float decay) {
  w -= rate * (g + decay * w);
}

POOLGRAD_EXPRESSION void descend_with_momentum(float& w, float& m, float g, float rate, float decay,
                                               float momentum) {
  m = momentum * m + (g + decay * w);
  w -= rate * m;
}

POOLGRAD_EXPRESSION void descend_with_nesterov(float& w, float& m, float g, float rate, float decay,
                                               float momentum) {
  const float slope = g + decay * w;
  m = momentum * m + slope;
  w -= rate * (slope + momentum * m);
}

/// What both kinds of Adam do to one column: settings, and what follows from the step number.
struct AdamCoefficients {
  float shrink = 1.0F;              // w *= shrink first: decoupled weight decay
  float decay = 0.0F;               // gradient += decay · w
  float new1 = 0.0F;                // 1 - beta1
  float keep2 = 0.0F, new2 = 0.0F;  // beta2, 1 - beta2
  float size = 0.0F;                // rate / (1 - beta1^t)
  float root = 0.0F;                // 1 / sqrt(1 - beta2^t)
  float epsilon = 0.0F;
};

/// In f64, once per call: beta2^t is close to 1 for the first thousand steps.
template <typename Settings>
POOLGRAD_BOTH inline AdamCoefficients adam_at_step(const Settings& s, float rate,
                                                   std::int64_t steps_done) {
  const auto t = static_cast<double>(steps_done + 1);
  AdamCoefficients c;
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

POOLGRAD_EXPRESSION void adam(float& w, float& m, float& v, float g, const AdamCoefficients& c) {
  const float weight = c.shrink * w;
  const float slope = g + c.decay * weight;
  m += c.new1 * (slope - m);
  v = c.keep2 * v + c.new2 * slope * slope;
  w = weight - c.size * m / (std::sqrt(v) * c.root + c.epsilon);
}

}  // namespace poolgrad::train::expressions

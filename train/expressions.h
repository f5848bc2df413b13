// What optimizers do to one value: the expressions that the CPU's loops and CUDA's kernels share.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "engine/ops/expressions.h"
#include "train/grad_scaler.h"
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

/// What the updates of a step multiply their gradients by, and whether none of them may happen.
struct GradScale {
  float factor;
  bool found_inf;
};

/// Of the sum of squares of all gradients, which are `scale` times what they should be: by
/// torch.nn.utils.clip_grad_norm_ they are shortened to `max_norm`, which may be infinite. In f64
/// no square of an f32 overflows.
POOLGRAD_EXPRESSION GradScale grad_scale(double sum_of_squares, float scale, float max_norm) {
  const auto norm = static_cast<float>(std::sqrt(sum_of_squares) / scale);
  const float clip = max_norm / (norm + 1e-6F);
  const bool finite = sum_of_squares <= std::numeric_limits<double>::max();
  return {static_cast<float>((clip > 1.0F ? 1.0 : static_cast<double>(clip)) / scale), !finite};
}

/// What a loss scale becomes after a step: never infinite, and never so small that its inverse is.
POOLGRAD_EXPRESSION void update_scale(float& scale, std::int64_t& growth_tracker,
                                      std::int64_t& skipped, bool found_inf, const GradScaler& s) {
  if (found_inf) {
    const float less = scale * s.backoff_factor;
    if (less >= std::numeric_limits<float>::min()) scale = less;
    growth_tracker = 0;
    ++skipped;
    return;
  }
  if (++growth_tracker < s.growth_interval) return;
  const float grown = scale * s.growth_factor;
  if (grown <= std::numeric_limits<float>::max()) scale = grown;
  growth_tracker = 0;
}

}  // namespace poolgrad::train::expressions

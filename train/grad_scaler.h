// GradScaler: the settings of a loss scale. What it does to a graph is minimize.h.
#pragma once

#include <cstdint>
#include <string>

namespace poolgrad::train {

/// torch.amp.GradScaler: gradients are made of the loss times a scale, so that f16 does not lose
/// the small ones, and updates divide it out again. A step with a gradient that is not finite
/// changes no weight, no moment and no step counter; it multiplies the scale by `backoff_factor`.
/// `growth_interval` other steps on end multiply it by `growth_factor`.
struct GradScaler {
  float init_scale = 65536.0F, growth_factor = 2.0F, backoff_factor = 0.5F;
  std::int64_t growth_interval = 2000;

  /// A scale that stays as it is. Steps with such a gradient change nothing all the same.
  [[nodiscard]] static GradScaler fixed(float scale) {
    return {.init_scale = scale, .growth_factor = 1.0F, .backoff_factor = 1.0F};
  }
  bool operator==(const GradScaler&) const = default;
};

/// Throws ArgumentError for an impossible setting, naming it.
void check(const GradScaler& scaler);

/// "from 65536, times 2 after 2000 steps, times 0.5": equal texts for equal settings only.
[[nodiscard]] std::string to_string(const GradScaler& scaler);

}  // namespace poolgrad::train

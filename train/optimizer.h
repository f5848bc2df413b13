// Optimizers as settings. What they do to a graph is minimize.h.
#pragma once

#include <string>
#include <variant>

namespace poolgrad::train {

/// PyTorch's SGD: g += weight_decay · w; m = momentum · m + g (m = g without momentum);
/// w -= rate · (nesterov ? g + momentum · m : m).
struct Sgd {
  float rate = 1e-2F, momentum = 0.0F, weight_decay = 0.0F;
  bool nesterov = false;
  bool operator==(const Sgd&) const = default;
};

/// Adam (Kingma and Ba, 2015, algorithm 1), as PyTorch: weight decay is added to the gradient.
struct Adam {
  float rate = 1e-3F;
  double beta1 = 0.9, beta2 = 0.999;  // not floats: 1 - beta2 would lose digits
  float epsilon = 1e-8F, weight_decay = 0.0F;
  bool operator==(const Adam&) const = default;
};

/// Adam with decoupled weight decay (Loshchilov and Hutter, 2019): w -= rate · weight_decay · w
/// first.
struct AdamW {
  float rate = 1e-3F;
  double beta1 = 0.9, beta2 = 0.999;
  float epsilon = 1e-8F, weight_decay = 1e-2F;
  bool operator==(const AdamW&) const = default;
};

using Optimizer = std::variant<Sgd, Adam, AdamW>;

/// Throws ArgumentError for a negative, NaN or otherwise impossible setting, naming it.
void check(const Optimizer& optimizer);

/// "adam with betas 0.9 and 0.999, epsilon 1e-08, weight decay 0": all but the rate, which may
/// change from step to step; equal texts for equal settings only.
[[nodiscard]] std::string to_string(const Optimizer& optimizer);

}  // namespace poolgrad::train

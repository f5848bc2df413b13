// The update ops of the optimizers, one builder each. Which tensors they are given is
// minimize.cpp's business. All inputs of one update have one shape; a whole column, packed, is one
// tensor too.
#pragma once

#include <algorithm>
#include <limits>

#include "engine/graph.h"
#include "train/grad_scaler.h"
#include "train/optimizer.h"

namespace poolgrad::train {

// ---- between gradients and their updates, where all of the ones must be there before any of the
// others

/// gradient -> [] f64, the sum of its squares: infinite or NaN where the gradient is not finite.
Tensor sum_squares(Tensor gradient);

/// Scalars (f32) that all updates of a step read: what gradients are multiplied by, and, where it
/// is not 0, that nothing may change.
struct GradScale {
  Tensor factor{}, found_inf{};
};
struct Unscale {
  float max_norm = std::numeric_limits<float>::infinity();  // of all gradients together
  bool skips = false;  // what is not finite is found; else updates take it as it is
  bool operator==(const Unscale&) const = default;
};
/// Of what sum_squares() made of all gradients, and of the loss scale that is in them.
GradScale grad_scale(const std::vector<Tensor>& sums, Tensor scale, const Unscale& settings);

/// The next loss scale, in place. `growth_tracker` (i64) counts steps on end that were not skipped,
/// `skipped` (i64) those that were; both are changed too.
Tensor update_scale(Tensor scale, Tensor growth_tracker, Tensor skipped, Tensor found_inf,
                    const GradScaler& settings);

// ---- updates

/// The weight after one step. `momentum` is changed too; it is empty exactly when the settings have
/// none. `rate` is a scalar (f32) and stands for Sgd::rate. Without `scale` the gradient is taken
/// as it is. Throws ShapeError.
Tensor sgd(Tensor weight, Tensor momentum, Tensor gradient, Tensor rate, const Sgd& settings,
           const GradScale& scale = {});

/// The weight after one step; both moments are changed too. `step` (i64, scalar) is how many steps
/// were done before. Throws ShapeError.
Tensor adam(Tensor weight, Tensor first, Tensor second, Tensor gradient, Tensor rate, Tensor step,
            const Adam& settings, const GradScale& scale = {});
Tensor adamw(Tensor weight, Tensor first, Tensor second, Tensor gradient, Tensor rate, Tensor step,
             const AdamW& settings, const GradScale& scale = {});

/// step + 1, in place, unless `found_inf`, which may be empty, says otherwise.
Tensor tick(Tensor step, Tensor found_inf = {});

/// Their CUDA kernels (updates.cu).
Kernel sum_squares_cuda(const Site& site);
Kernel grad_scale_cuda(const Site& site);
Kernel update_scale_cuda(const Site& site);
Kernel sgd_cuda(const Site& site);
Kernel sgd_momentum_cuda(const Site& site);
Kernel adam_cuda(const Site& site);
Kernel adamw_cuda(const Site& site);
Kernel tick_cuda(const Site& site);

/// What infer() of every update checks: the first `count` inputs are f32 of one shape.
void check_same_shapes(std::string_view op, const Site& site, std::size_t count);

/// What an update's node is made of, with the scale behind all else where there is one.
std::vector<Tensor> with_scale(std::vector<Tensor> inputs, const GradScale& scale);

/// y = x · factor.
void multiplied(const float* x, float factor, float* y, std::int64_t count);

/// How an update's kernel reads its gradient: `plain` inputs, then perhaps a GradScale.
class ScaledGradient {
 public:
  ScaledGradient(const Site& site, std::size_t plain)
      : at_(site.inputs.size() > plain ? static_cast<int>(plain) : -1) {}

  [[nodiscard]] bool skips(const Args& a) const {
    return at_ >= 0 && *a.in<float>(at_ + 1) != 0.0F;
  }
  [[nodiscard]] const float* factor(const Args& a) const {
    return at_ < 0 ? nullptr : a.in<float>(at_);
  }
  [[nodiscard]] const float* found_inf(const Args& a) const {
    return at_ < 0 ? nullptr : a.in<float>(at_ + 1);
  }
  /// visit(begin, count, values) for `count` values from gradient[begin] on as the update wants
  /// them, all or block by block.
  template <typename F>
  void each(const Args& a, const float* gradient, std::int64_t count, const F& visit) const {
    if (at_ < 0) return visit(0, count, gradient);
    constexpr std::int64_t kBlock = 1024;
    float block[kBlock];
    for (std::int64_t begin = 0; begin < count; begin += kBlock) {
      const std::int64_t here = std::min(kBlock, count - begin);
      multiplied(gradient + begin, *factor(a), block, here);
      visit(begin, here, static_cast<const float*>(block));
    }
  }

 private:
  int at_;  // of the factor
};

}  // namespace poolgrad::train

// A loss scale's settings, and the ops between gradients and their updates: sums of squares, what
// follows from them for all updates, and the next scale.
#include "train/grad_scaler.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/backend/loops.h"
#include "engine/ops.h"
#include "memory/alignment.h"
#include "train/expressions.h"
#include "train/updates.h"

namespace poolgrad::train {
namespace {

/// From one sum to the next where sums are packed, in values.
constexpr std::int64_t kApart = memory::kAlignment / sizeof(double);

// ---- sum_squares

/// Sixteen sums side by side, so that the compiler makes vectors of them.
POOLGRAD_CLONES
double sum_of_squares(const float* x, std::int64_t count) {
  constexpr std::int64_t kLanes = 16;
  double sums[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t k = 0; k < kLanes; ++k) {
      const double value = x[i + k];
      sums[k] += value * value;
    }
  }
  double total = 0.0;
  for (; i < count; ++i) total += static_cast<double>(x[i]) * x[i];
  for (const double sum : sums) total += sum;
  return total;
}

constexpr OpDef kSumSquares{
    .name = "sum_squares",  // gradient -> []
    .infer = [](const Site&) -> std::vector<Spec> {
      return {{{}, DType::f64}};
    },
    .precise = true,
    .cpu = [](const Site& site) -> Kernel {
      return {[count = site.inputs[0].shape.count()](const Args& a) {
        *a.out<double>() = sum_of_squares(a.in<float>(0), count);
      }};
    },
    .cuda = kCuda ? sum_squares_cuda : nullptr,
};

// ---- grad_scale

Kernel grad_scale_cpu(const Site& site) {
  return {[count = site.inputs[0].shape.count(), s = site.attributes.as<Unscale>()](const Args& a) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < count; i += kApart) sum += a.in<double>(0)[i];
    const auto scale = expressions::grad_scale(sum, *a.in<float>(1), s.max_norm);
    *a.out<float>(0) = scale.factor;
    *a.out<float>(1) = s.skips && scale.found_inf ? 1.0F : 0.0F;
  }};
}

constexpr OpDef kGradScale{
    .name = "grad_scale",  // packed sums of squares, scale -> factor, found_inf
    .infer = [](const Site&) -> std::vector<Spec> {
      return {{}, {}};
    },
    .precise = true,
    .cpu = grad_scale_cpu,
    .cuda = kCuda ? grad_scale_cuda : nullptr,
};

// ---- update_scale

constexpr OpDef kUpdateScale{
    .name = "update_scale",  // scale, growth tracker, skipped, found_inf -> the first three
    .infer = [](const Site& site) -> std::vector<Spec> {
      return {site.inputs.begin(), site.inputs.begin() + 3};
    },
    .updates = 3,
    .cpu = [](const Site& site) -> Kernel {
      return {[s = site.attributes.as<GradScaler>()](const Args& a) {
        expressions::update_scale(*a.out<float>(0), *a.out<std::int64_t>(1),
                                  *a.out<std::int64_t>(2), *a.in<float>(3) != 0.0F, s);
      }};
    },
    .cuda = kCuda ? update_scale_cuda : nullptr,
};

// ---- settings

void check_setting(const char* setting, double value, bool possible, const char* range) {
  if (possible) return;
  throw ArgumentError(text("grad scaler: ", setting, " is ", value, "; it must be ", range));
}

std::string exact(float value) {
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, value);
  return {digits, end};
}

POOLGRAD_CLONES
void multiply(const float* x, float factor, float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] * factor;
}

}  // namespace

void check(const GradScaler& s) {
  const auto finite_above = [](float value, float least) {
    return std::isfinite(value) && value > least;
  };
  check_setting("init_scale", s.init_scale, finite_above(s.init_scale, 0.0F), "above 0");
  check_setting("growth_factor", s.growth_factor,
                s.growth_factor == 1.0F || finite_above(s.growth_factor, 1.0F), "1 or more");
  check_setting("backoff_factor", s.backoff_factor,
                s.backoff_factor > 0.0F && s.backoff_factor <= 1.0F, "above 0 and at most 1");
  check_setting("growth_interval", static_cast<double>(s.growth_interval), s.growth_interval > 0,
                "1 or more");
}

std::string to_string(const GradScaler& s) {
  return text("from ", exact(s.init_scale), ", times ", exact(s.growth_factor), " after ",
              s.growth_interval, " steps, times ", exact(s.backoff_factor));
}

Tensor sum_squares(Tensor gradient) { return gradient.graph->add(kSumSquares, {gradient})[0]; }

GradScale grad_scale(const std::vector<Tensor>& sums, Tensor scale, const Unscale& settings) {
  const auto made = scale.graph->add(kGradScale, {pack(sums), scale}, settings);
  return {made[0], made[1]};
}

Tensor update_scale(Tensor scale, Tensor growth_tracker, Tensor skipped, Tensor found_inf,
                    const GradScaler& settings) {
  return scale.graph->add(kUpdateScale, {scale, growth_tracker, skipped, found_inf}, settings)[0];
}

void multiplied(const float* x, float factor, float* y, std::int64_t count) {
  multiply(x, factor, y, count);
}

}  // namespace poolgrad::train

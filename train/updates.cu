// Updates of the optimizers. One launch does as many parameters as the node has: with
// Updates::whole_column all of them.
#include "engine/cuda/column_sums.h"
#include "engine/cuda/launch.h"
#include "memory/alignment.h"
#include "train/expressions.h"
#include "train/updates.h"

namespace poolgrad::train {
namespace {

using cuda::each;
using cuda::load;
using cuda::Queue;
using cuda::store;
using expressions::AdamCoefficients;

/// A gradient as an update wants it; without a scale as it is.
struct Slopes {
  const float *g, *factor, *found_inf;

  Slopes(const ScaledGradient& scaled, const Args& a, int gradient)
      : g(a.in<float>(gradient)), factor(scaled.factor(a)), found_inf(scaled.found_inf(a)) {}
  POOLGRAD_BOTH bool skips() const { return found_inf != nullptr && *found_inf != 0.0F; }
  template <int N>
  POOLGRAD_BOTH cuda::Few<float, N> at(std::int64_t i) const {
    auto slopes = load<N>(g + i);
    const float by = factor == nullptr ? 1.0F : *factor;
    for (int k = 0; k < N; ++k) slopes[k] *= by;
    return slopes;
  }
};

struct Descend {
  float* w;
  Slopes gradient;
  const float* rate;
  float decay;
  template <int N>
  POOLGRAD_BOTH void at(std::int64_t i) const {
    if (gradient.skips()) return;
    auto weights = load<N>(w + i);
    const auto slopes = gradient.at<N>(i);
    for (int k = 0; k < N; ++k) expressions::descend(weights[k], slopes[k], *rate, decay);
    store(w + i, weights);
  }
};

struct DescendWithMomentum {
  float *w, *m;
  Slopes gradient;
  const float* rate;
  float decay, momentum;
  bool nesterov;
  template <int N>
  POOLGRAD_BOTH void at(std::int64_t i) const {
    if (gradient.skips()) return;
    auto weights = load<N>(w + i), momenta = load<N>(m + i);
    const auto slopes = gradient.at<N>(i);
    for (int k = 0; k < N; ++k) {
      if (nesterov) {
        expressions::descend_with_nesterov(weights[k], momenta[k], slopes[k], *rate, decay,
                                           momentum);
      } else {
        expressions::descend_with_momentum(weights[k], momenta[k], slopes[k], *rate, decay,
                                           momentum);
      }
    }
    store(w + i, weights);
    store(m + i, momenta);
  }
};

template <typename Settings>
struct MakeCoefficients {
  Settings settings;
  const float* rate;
  const std::int64_t* step;
  AdamCoefficients* now;
  POOLGRAD_BOTH void operator()(std::int64_t) const {
    *now = expressions::adam_at_step(settings, *rate, *step);
  }
};

struct DescendByAdam {
  float *w, *m, *v;
  Slopes gradient;
  const AdamCoefficients* now;
  template <int N>
  POOLGRAD_BOTH void at(std::int64_t i) const {
    if (gradient.skips()) return;
    auto weights = load<N>(w + i), first = load<N>(m + i), second = load<N>(v + i);
    const auto slopes = gradient.at<N>(i);
    const AdamCoefficients c = *now;
    for (int k = 0; k < N; ++k) expressions::adam(weights[k], first[k], second[k], slopes[k], c);
    store(w + i, weights);
    store(m + i, first);
    store(v + i, second);
  }
};

/// Body(i) does the i-th values of all operands, which have one shape.
template <typename Body>
void each_of(const Queue& queue, std::int64_t count, std::initializer_list<const void*> operands,
             const Body& body) {
  cuda::each_value<cuda::kFit<float>>(queue, count, cuda::aligned(operands), body);
}

struct Tick {
  std::int64_t* step;
  const float* found_inf;  // or null
  POOLGRAD_BOTH void operator()(std::int64_t) const {
    if (found_inf == nullptr || *found_inf == 0.0F) ++*step;
  }
};

// ---- loss scales and clipping

/// x · x, in f64: there no square of an f32 overflows.
struct Squares {
  static constexpr int kSums = 1;
  const float* x;

  template <int N>
  POOLGRAD_BOTH void run(const cuda::Run& run, std::int64_t, double* sums) const {
    for (int k = 0; k < run.count; ++k) {
      const auto next = load<N>(x + run.first + k * run.step);
      for (int j = 0; j < N; ++j) sums[j] += static_cast<double>(next[j]) * next[j];
    }
  }
};

struct ToDouble {
  double* to;
  POOLGRAD_BOTH void operator()(std::int64_t, std::int64_t, const double* sums) const {
    *to = sums[0];
  }
};

struct MakeGradScale {
  const double* sums;
  std::int64_t count;
  const float* scale;
  Unscale settings;
  float *factor, *found_inf;
  POOLGRAD_BOTH void operator()(std::int64_t) const {
    constexpr std::int64_t kApart = memory::kAlignment / sizeof(double);
    double sum = 0.0;
    for (std::int64_t i = 0; i < count; i += kApart) sum += sums[i];
    const auto made = expressions::grad_scale(sum, *scale, settings.max_norm);
    *factor = made.factor;
    *found_inf = settings.skips && made.found_inf ? 1.0F : 0.0F;
  }
};

struct UpdateScale {
  float* scale;
  std::int64_t *growth_tracker, *skipped;
  const float* found_inf;
  GradScaler settings;
  POOLGRAD_BOTH void operator()(std::int64_t) const {
    expressions::update_scale(*scale, *growth_tracker, *skipped, *found_inf != 0.0F, settings);
  }
};

/// The powers of beta are taken once, by a launch of their own.
template <typename Settings>
Kernel adam_of(const char* op, const Site& site) {
  return {
      [queue = Queue(op, site), count = site.inputs[0].shape.count(),
       scaled = ScaledGradient(site, 6), s = site.attributes.as<Settings>()](const Args& a) {
        auto* const now = reinterpret_cast<AdamCoefficients*>(a.workspace());
        each(queue, 1, MakeCoefficients<Settings>{s, a.in<float>(4), a.in<std::int64_t>(5), now});
        each_of(queue, count, {a.outputs[0], a.outputs[1], a.outputs[2], a.inputs[3]},
                DescendByAdam{a.out<float>(0), a.out<float>(1), a.out<float>(2),
                              Slopes(scaled, a, 3), now});
      },
      sizeof(AdamCoefficients)};
}

}  // namespace

Kernel sgd_cuda(const Site& site) {
  return {[queue = Queue("sgd", site), count = site.inputs[0].shape.count(),
           scaled = ScaledGradient(site, 3), s = site.attributes.as<Sgd>()](const Args& a) {
    each_of(queue, count, {a.outputs[0], a.inputs[1]},
            Descend{a.out<float>(), Slopes(scaled, a, 1), a.in<float>(2), s.weight_decay});
  }};
}

Kernel sgd_momentum_cuda(const Site& site) {
  return {[queue = Queue("sgd_momentum", site), count = site.inputs[0].shape.count(),
           scaled = ScaledGradient(site, 4), s = site.attributes.as<Sgd>()](const Args& a) {
    each_of(queue, count, {a.outputs[0], a.outputs[1], a.inputs[2]},
            DescendWithMomentum{a.out<float>(0), a.out<float>(1), Slopes(scaled, a, 2),
                                a.in<float>(3), s.weight_decay, s.momentum, s.nesterov});
  }};
}

Kernel adam_cuda(const Site& site) { return adam_of<Adam>("adam", site); }
Kernel adamw_cuda(const Site& site) { return adam_of<AdamW>("adamw", site); }

Kernel tick_cuda(const Site& site) {
  return {[queue = Queue("tick", site), may_skip = site.inputs.size() > 1](const Args& a) {
    each(queue, 1, Tick{a.out<std::int64_t>(), may_skip ? a.in<float>(1) : nullptr});
  }};
}

Kernel sum_squares_cuda(const Site& site) {
  const std::int64_t count = site.inputs[0].shape.count();
  const cuda::ColumnSums sums(count, 1);
  return {[queue = Queue("sum_squares", site), sums, count](const Args& a) {
            sums.run(queue, {count}, Squares{a.in<float>(0)}, {a.inputs[0]}, a.workspace(),
                     ToDouble{a.out<double>()});
          },
          sums.workspace_bytes(1)};
}

Kernel grad_scale_cuda(const Site& site) {
  return {[queue = Queue("grad_scale", site), count = site.inputs[0].shape.count(),
           s = site.attributes.as<Unscale>()](const Args& a) {
    each(
        queue, 1,
        MakeGradScale{a.in<double>(0), count, a.in<float>(1), s, a.out<float>(0), a.out<float>(1)});
  }};
}

Kernel update_scale_cuda(const Site& site) {
  return {
      [queue = Queue("update_scale", site), s = site.attributes.as<GradScaler>()](const Args& a) {
        each(queue, 1,
             UpdateScale{a.out<float>(0), a.out<std::int64_t>(1), a.out<std::int64_t>(2),
                         a.in<float>(3), s});
      }};
}

}  // namespace poolgrad::train

// Updates of the optimizers. One launch does as many parameters as the node has: with
// Updates::whole_column all of them.
#include "engine/cuda/launch.h"
#include "train/expressions.h"
#include "train/updates.h"

namespace poolgrad::train {
namespace {

using cuda::each;
using cuda::Queue;
using expressions::AdamCoefficients;

struct Descend {
  float* w;
  const float *g, *rate;
  float decay;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    expressions::descend(w[i], g[i], *rate, decay);
  }
};

struct DescendWithMomentum {
  float *w, *m;
  const float *g, *rate;
  float decay, momentum;
  bool nesterov;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    if (nesterov) {
      expressions::descend_with_nesterov(w[i], m[i], g[i], *rate, decay, momentum);
    } else {
      expressions::descend_with_momentum(w[i], m[i], g[i], *rate, decay, momentum);
    }
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
  const float* g;
  const AdamCoefficients* now;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    expressions::adam(w[i], m[i], v[i], g[i], *now);
  }
};

struct Tick {
  std::int64_t* step;
  POOLGRAD_BOTH void operator()(std::int64_t) const { ++*step; }
};

/// The powers of beta are taken once, by a launch of their own.
template <typename Settings>
Kernel adam_of(const char* op, const Site& site) {
  return {
      [queue = Queue(op, site), count = site.inputs[0].shape.count(),
       s = site.attributes.as<Settings>()](const Args& a) {
        auto* const now = reinterpret_cast<AdamCoefficients*>(a.workspace());
        each(queue, 1, MakeCoefficients<Settings>{s, a.in<float>(4), a.in<std::int64_t>(5), now});
        each(queue, count,
             DescendByAdam{a.out<float>(0), a.out<float>(1), a.out<float>(2), a.in<float>(3), now});
      },
      sizeof(AdamCoefficients)};
}

}  // namespace

Kernel sgd_cuda(const Site& site) {
  return {[queue = Queue("sgd", site), count = site.inputs[0].shape.count(),
           s = site.attributes.as<Sgd>()](const Args& a) {
    each(queue, count, Descend{a.out<float>(), a.in<float>(1), a.in<float>(2), s.weight_decay});
  }};
}

Kernel sgd_momentum_cuda(const Site& site) {
  return {[queue = Queue("sgd_momentum", site), count = site.inputs[0].shape.count(),
           s = site.attributes.as<Sgd>()](const Args& a) {
    each(queue, count,
         DescendWithMomentum{a.out<float>(0), a.out<float>(1), a.in<float>(2), a.in<float>(3),
                             s.weight_decay, s.momentum, s.nesterov});
  }};
}

Kernel adam_cuda(const Site& site) { return adam_of<Adam>("adam", site); }
Kernel adamw_cuda(const Site& site) { return adam_of<AdamW>("adamw", site); }

Kernel tick_cuda(const Site& site) {
  return {[queue = Queue("tick", site)](const Args& a) {
    each(queue, 1, Tick{a.out<std::int64_t>()});
  }};
}

}  // namespace poolgrad::train

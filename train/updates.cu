// Updates of the optimizers. One launch does as many parameters as the node has: with
// Updates::whole_column all of them.
#include "engine/cuda/launch.h"
#include "train/expressions.h"
#include "train/updates.h"

namespace poolgrad::train {
namespace {

using cuda::each;
using cuda::load;
using cuda::Queue;
using cuda::store;
using expressions::AdamCoefficients;

struct Descend {
  float* w;
  const float *g, *rate;
  float decay;
  template <int N>
  POOLGRAD_BOTH void at(std::int64_t i) const {
    auto weights = load<N>(w + i);
    const auto slopes = load<N>(g + i);
    for (int k = 0; k < N; ++k) expressions::descend(weights[k], slopes[k], *rate, decay);
    store(w + i, weights);
  }
};

struct DescendWithMomentum {
  float *w, *m;
  const float *g, *rate;
  float decay, momentum;
  bool nesterov;
  template <int N>
  POOLGRAD_BOTH void at(std::int64_t i) const {
    auto weights = load<N>(w + i), momenta = load<N>(m + i);
    const auto slopes = load<N>(g + i);
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
  const float* g;
  const AdamCoefficients* now;
  template <int N>
  POOLGRAD_BOTH void at(std::int64_t i) const {
    auto weights = load<N>(w + i), first = load<N>(m + i), second = load<N>(v + i);
    const auto slopes = load<N>(g + i);
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
        each_of(
            queue, count, {a.outputs[0], a.outputs[1], a.outputs[2], a.inputs[3]},
            DescendByAdam{a.out<float>(0), a.out<float>(1), a.out<float>(2), a.in<float>(3), now});
      },
      sizeof(AdamCoefficients)};
}

}  // namespace

Kernel sgd_cuda(const Site& site) {
  return {[queue = Queue("sgd", site), count = site.inputs[0].shape.count(),
           s = site.attributes.as<Sgd>()](const Args& a) {
    each_of(queue, count, {a.outputs[0], a.inputs[1]},
            Descend{a.out<float>(), a.in<float>(1), a.in<float>(2), s.weight_decay});
  }};
}

Kernel sgd_momentum_cuda(const Site& site) {
  return {[queue = Queue("sgd_momentum", site), count = site.inputs[0].shape.count(),
           s = site.attributes.as<Sgd>()](const Args& a) {
    each_of(queue, count, {a.outputs[0], a.outputs[1], a.inputs[2]},
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

// max_pool2d: values, and as a second output the winner of each window as a u8: what backward needs
// of x, a quarter of a byte per element instead of four. Images are channels-last.
//
// relu and the maximum change places without changing a bit, so a ReLU before the pool is done by
// it: dead windows have no winner, and neither x nor y is kept for backward.
#include <algorithm>

#include "engine/backend/loops.h"
#include "engine/cuda/kernels.h"
#include "engine/ops/expressions.h"
#include "engine/ops/settings.h"
#include "engine/ops/window.h"

namespace poolgrad {
namespace {

constexpr std::int32_t kLargest = 16;    // 16 · 16 winners fit in a u8
constexpr std::uint8_t kNoWinner = 255;  // of a window that the fused ReLU has cut off

using settings::MaxPool2d;

// ---- kernels: loops over the channels of one window, which are neighbours

/// Windows of 2 by 2, all four values at once.
template <bool kRelu>
[[gnu::always_inline]] inline void pool_2x2(const float* __restrict upper,
                                            const float* __restrict lower, std::int64_t channels,
                                            float* __restrict y, std::uint8_t* __restrict winner) {
  for (std::int64_t i = 0; i < channels; ++i) {
    float best = upper[i];
    std::int32_t at = 0;
    const float others[3] = {upper[channels + i], lower[i], lower[channels + i]};
    for (std::int32_t k = 0; k < 3; ++k) {
      const bool better = expressions::wins(others[k], best);
      at = better ? k + 1 : at;
      best = better ? others[k] : best;
    }
    if (kRelu) {
      at = best > 0.0F ? at : kNoWinner;
      best = best < 0.0F ? 0.0F : best;
    }
    y[i] = best;
    winner[i] = static_cast<std::uint8_t>(at);
  }
}

template <bool kRelu>
[[gnu::always_inline]] inline void pool_any(const float* x, const Windows& s, const Window& v,
                                            float* __restrict y, std::uint8_t* __restrict winner) {
  const auto first = static_cast<std::uint8_t>(v.first_h * s.size_w + v.first_w);
  std::copy_n(x + (v.row * s.w + v.column) * s.c, s.c, y);
  std::fill_n(winner, s.c, first);
  for (std::int64_t row = v.row; row < v.row_end; ++row) {
    for (std::int64_t column = v.column; column < v.column_end; ++column) {
      const float* __restrict from = x + (row * s.w + column) * s.c;
      const auto place = static_cast<std::uint8_t>((v.first_h + row - v.row) * s.size_w +
                                                   v.first_w + column - v.column);
      for (std::int64_t i = 0; i < s.c; ++i) {
        const bool better = expressions::wins(from[i], y[i]);
        winner[i] = better ? place : winner[i];
        y[i] = better ? from[i] : y[i];
      }
    }
  }
  for (std::int64_t i = 0; kRelu && i < s.c; ++i) {
    winner[i] = y[i] > 0.0F ? winner[i] : kNoWinner;
    y[i] = y[i] < 0.0F ? 0.0F : y[i];
  }
}

template <bool kRelu>
[[gnu::always_inline]] inline void pool_all(const Windows& s, const float* x, float* y,
                                            std::uint8_t* winner) {
  const bool twos = s.tile() && s.size_h == 2 && s.size_w == 2;
  for (std::int64_t image = 0; image < s.n; ++image, x += s.h * s.w * s.c) {
    for (std::int64_t oy = 0; oy < s.oh; ++oy) {
      for (std::int64_t ox = 0; ox < s.ow; ++ox, y += s.c, winner += s.c) {
        if (twos) {
          const float* upper = x + (2 * oy * s.w + 2 * ox) * s.c;
          pool_2x2<kRelu>(upper, upper + s.w * s.c, s.c, y, winner);
        } else {
          pool_any<kRelu>(x, s, Window(s, oy, ox), y, winner);
        }
      }
    }
  }
}

POOLGRAD_CLONES
void pool(const Windows& s, const float* x, float* y, std::uint8_t* winner) {
  pool_all<false>(s, x, y, winner);
}

POOLGRAD_CLONES
void pool_relu(const Windows& s, const float* x, float* y, std::uint8_t* winner) {
  pool_all<true>(s, x, y, winner);
}

/// kAdd: windows overlap, so dx holds what the ones before have put there.
template <bool kAdd>
[[gnu::always_inline]] inline void unpool_all(const Windows& s, const float* dy,
                                              const std::uint8_t* winner, float* dx) {
  for (std::int64_t image = 0; image < s.n; ++image, dx += s.h * s.w * s.c) {
    for (std::int64_t oy = 0; oy < s.oh; ++oy) {
      for (std::int64_t ox = 0; ox < s.ow; ++ox, dy += s.c, winner += s.c) {
        const Window v(s, oy, ox);
        for (std::int64_t row = v.row; row < v.row_end; ++row) {
          for (std::int64_t column = v.column; column < v.column_end; ++column) {
            float* __restrict to = dx + (row * s.w + column) * s.c;
            const auto place = static_cast<std::uint8_t>((v.first_h + row - v.row) * s.size_w +
                                                         v.first_w + column - v.column);
            for (std::int64_t i = 0; i < s.c; ++i) {
              const float share = winner[i] == place ? dy[i] : 0.0F;
              to[i] = kAdd ? to[i] + share : share;
            }
          }
        }
      }
    }
  }
}

POOLGRAD_CLONES
void unpool(const Windows& s, const float* dy, const std::uint8_t* winner, float* dx) {
  if (s.tile()) return unpool_all<false>(s, dy, winner, dx);
  std::fill_n(dx, s.n * s.h * s.w * s.c, 0.0F);
  unpool_all<true>(s, dy, winner, dx);
}

// ---- definitions

std::vector<Spec> max_pool2d_infer(const Site& site) {
  const Shape y =
      pooled("max_pool2d", site.inputs[0], site.attributes.as<MaxPool2d>().pool, kLargest);
  const Layout layout = site.inputs[0].layout;
  return {{y, DType::f32, layout}, {y, DType::u8, layout}};
}

Kernel max_pool2d_cpu(const Site& site) {
  const auto settings = site.attributes.as<MaxPool2d>();
  const Windows s(site.inputs[0].shape, site.outputs[0].shape, settings.pool);
  return {[s, run = settings.relu ? pool_relu : pool](const Args& a) {
    run(s, a.in<float>(0), a.out<float>(), a.out<std::uint8_t>(1));
  }};
}

std::vector<Spec> max_pool2d_grad_infer(const Site& site) {
  const auto g = site.attributes.as<PoolGradient>();
  Spec dx = site.inputs[0];
  dx.shape[2] = g.h, dx.shape[3] = g.w;
  return {dx};
}

Kernel max_pool2d_grad_cpu(const Site& site) {
  const Windows s(site.outputs[0].shape, site.inputs[0].shape,
                  site.attributes.as<PoolGradient>().pool);
  return {[s](const Args& a) { unpool(s, a.in<float>(0), a.in<std::uint8_t>(1), a.out<float>()); }};
}

constexpr OpDef kMaxPool2dGrad{
    .name = "max_pool2d_grad",  // dy, winners -> dx
    .infer = max_pool2d_grad_infer,
    .wants = {Layout::channels_last, Layout::channels_last},
    .cuts = row_by_row<2>,
    .cpu = max_pool2d_grad_cpu,
    .cuda = kCuda ? cuda::max_pool2d_grad : nullptr,
};

std::optional<Attributes> take_relu(const Node& self, const Node& previous) {
  auto settings = self.attributes.as<MaxPool2d>();
  const auto places = settings.pool.size[0] * settings.pool.size[1];
  if (previous.op != &kRelu || settings.relu || places > kNoWinner) return {};
  settings.relu = true;
  return Attributes(settings);
}

constexpr OpDef kMaxPool2d{
    .name = "max_pool2d",  // x -> y, winners
    .infer = max_pool2d_infer,
    .backward = [](const Backward& b) -> std::vector<Tensor> {
      const Shape& x = b.inputs[0].shape();
      const PoolGradient gradient{b.attributes.as<MaxPool2d>().pool, x[2], x[3]};
      return b.dy[0].graph->add(kMaxPool2dGrad, {b.dy[0], b.outputs[1]}, gradient);
    },
    .wants = {Layout::channels_last},
    .absorb_input = take_relu,
    .cuts = row_by_row<1, 2>,
    .cpu = max_pool2d_cpu,
    .cuda = kCuda ? cuda::max_pool2d : nullptr,
};

}  // namespace

Tensor max_pool2d(Tensor x, const Pool2d& settings) {
  return x.graph->add(kMaxPool2d, {x}, MaxPool2d{settings})[0];
}

}  // namespace poolgrad

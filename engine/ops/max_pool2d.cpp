// max_pool2d: values, and as a second output the winner of each window as a u8: what backward needs
// of x, a quarter of a byte per element instead of four. Images are channels-last.
//
// relu and the maximum change places without changing a bit, so a ReLU before the pool is done by it: dead
// windows have no winner, and neither x nor y is kept for backward.
#include <algorithm>

#include "engine/backend/loops.h"
#include "engine/ops/window.h"

namespace poolgrad {
namespace {

constexpr std::int32_t kLargest = 16;   // 16 · 16 winners fit in a u8
constexpr std::uint8_t kNoWinner = 255;  // of a window that the fused ReLU has cut off

struct MaxPool2d {
  Pool2d pool;
  bool relu = false;  // set by fusing
  bool operator==(const MaxPool2d&) const = default;
};

// ---- kernels: kLanes neighbouring channels of one window, whose winners stay in registers

template <int kLanes, bool kRelu>
[[gnu::always_inline]] inline void pool_lanes(const float* x, const Windows& s, const Window& v,
                                              float* y, std::uint8_t* winner) {
  float value[kLanes];
  std::int32_t at[kLanes];
  const float* first = x + (v.row * s.w + v.column) * s.c;
  for (int i = 0; i < kLanes; ++i) {
    value[i] = first[i];
    at[i] = static_cast<std::int32_t>(v.first_h * s.size_w + v.first_w);
  }
  for (std::int64_t row = v.row; row < v.row_end; ++row) {
    auto place = static_cast<std::int32_t>((v.first_h + row - v.row) * s.size_w + v.first_w);
    for (std::int64_t column = v.column; column < v.column_end; ++column, ++place) {
      const float* from = x + (row * s.w + column) * s.c;
      for (int i = 0; i < kLanes; ++i) {
        const bool wins = from[i] > value[i] || from[i] != from[i];  // NaN stays, as in PyTorch
        at[i] = wins ? place : at[i];
        value[i] = wins ? from[i] : value[i];
      }
    }
  }
  for (int i = 0; i < kLanes; ++i) {
    const bool dead = kRelu && !(value[i] > 0.0F);
    y[i] = dead && value[i] < 0.0F ? 0.0F : value[i];
    winner[i] = static_cast<std::uint8_t>(dead ? kNoWinner : at[i]);
  }
}

template <bool kRelu>
[[gnu::always_inline]] inline void pool_all(const Windows& s, const float* x, float* y,
                                            std::uint8_t* winner) {
  for (std::int64_t image = 0; image < s.n; ++image, x += s.h * s.w * s.c) {
    for (std::int64_t oy = 0; oy < s.oh; ++oy) {
      for (std::int64_t ox = 0; ox < s.ow; ++ox, y += s.c, winner += s.c) {
        const Window v(s, oy, ox);
        std::int64_t i = 0;
        for (; i + 16 <= s.c; i += 16) pool_lanes<16, kRelu>(x + i, s, v, y + i, winner + i);
        for (; i + 4 <= s.c; i += 4) pool_lanes<4, kRelu>(x + i, s, v, y + i, winner + i);
        for (; i < s.c; ++i) pool_lanes<1, kRelu>(x + i, s, v, y + i, winner + i);
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
template <int kLanes, bool kAdd>
[[gnu::always_inline]] inline void unpool_lanes(const float* dy, const std::uint8_t* winner,
                                                const Windows& s, const Window& v, float* dx) {
  float value[kLanes];
  std::int32_t at[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    value[i] = dy[i];
    at[i] = winner[i];
  }
  for (std::int64_t row = v.row; row < v.row_end; ++row) {
    auto place = static_cast<std::int32_t>((v.first_h + row - v.row) * s.size_w + v.first_w);
    for (std::int64_t column = v.column; column < v.column_end; ++column, ++place) {
      float* to = dx + (row * s.w + column) * s.c;
      for (int i = 0; i < kLanes; ++i) {
        const float share = at[i] == place ? value[i] : 0.0F;
        to[i] = kAdd ? to[i] + share : share;
      }
    }
  }
}

template <bool kAdd>
[[gnu::always_inline]] inline void unpool_all(const Windows& s, const float* dy,
                                              const std::uint8_t* winner, float* dx) {
  for (std::int64_t image = 0; image < s.n; ++image, dx += s.h * s.w * s.c) {
    for (std::int64_t oy = 0; oy < s.oh; ++oy) {
      for (std::int64_t ox = 0; ox < s.ow; ++ox, dy += s.c, winner += s.c) {
        const Window v(s, oy, ox);
        std::int64_t i = 0;
        for (; i + 16 <= s.c; i += 16) unpool_lanes<16, kAdd>(dy + i, winner + i, s, v, dx + i);
        for (; i + 4 <= s.c; i += 4) unpool_lanes<4, kAdd>(dy + i, winner + i, s, v, dx + i);
        for (; i < s.c; ++i) unpool_lanes<1, kAdd>(dy + i, winner + i, s, v, dx + i);
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
  const Shape y = pooled("max_pool2d", site.inputs[0], site.attributes.as<MaxPool2d>().pool, kLargest);
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
};

}  // namespace

Tensor max_pool2d(Tensor x, const Pool2d& settings) {
  return x.graph->add(kMaxPool2d, {x}, MaxPool2d{settings})[0];
}

}  // namespace poolgrad

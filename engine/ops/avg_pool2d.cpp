// avg_pool2d and global_avg_pool2d, one window of which is the whole image. Padding counts as
// zeros. Images are channels-last.
#include <algorithm>

#include "engine/backend/loops.h"
#include "engine/cuda/kernels.h"
#include "engine/ops/window.h"

namespace poolgrad {
namespace {

// ---- kernels

/// The mean of kLanes neighbouring channels over one window, in registers.
template <int kLanes>
[[gnu::always_inline]] inline void mean_lanes(const float* x, const Windows& s, const Window& v,
                                              float scale, float* y) {
  float sum[kLanes] = {};
  for (std::int64_t row = v.row; row < v.row_end; ++row) {
    for (std::int64_t column = v.column; column < v.column_end; ++column) {
      const float* from = x + (row * s.w + column) * s.c;
      for (int i = 0; i < kLanes; ++i) sum[i] += from[i];
    }
  }
  for (int i = 0; i < kLanes; ++i) y[i] = sum[i] * scale;
}

POOLGRAD_CLONES
void pool(const Windows& s, const float* x, float* y) {
  const float scale = 1.0F / static_cast<float>(s.size_h * s.size_w);
  for (std::int64_t image = 0; image < s.n; ++image, x += s.h * s.w * s.c) {
    for (std::int64_t oy = 0; oy < s.oh; ++oy) {
      for (std::int64_t ox = 0; ox < s.ow; ++ox, y += s.c) {
        const Window v(s, oy, ox);
        std::int64_t i = 0;
        for (; i + 16 <= s.c; i += 16) mean_lanes<16>(x + i, s, v, scale, y + i);
        for (; i + 4 <= s.c; i += 4) mean_lanes<4>(x + i, s, v, scale, y + i);
        for (; i < s.c; ++i) mean_lanes<1>(x + i, s, v, scale, y + i);
      }
    }
  }
}

POOLGRAD_CLONES
void unpool(const Windows& s, const float* dy, float* dx) {
  const float scale = 1.0F / static_cast<float>(s.size_h * s.size_w);
  std::fill_n(dx, s.n * s.h * s.w * s.c, 0.0F);
  for (std::int64_t image = 0; image < s.n; ++image, dx += s.h * s.w * s.c) {
    for (std::int64_t oy = 0; oy < s.oh; ++oy) {
      for (std::int64_t ox = 0; ox < s.ow; ++ox, dy += s.c) {
        const Window v(s, oy, ox);
        for (std::int64_t row = v.row; row < v.row_end; ++row) {
          for (std::int64_t column = v.column; column < v.column_end; ++column) {
            float* to = dx + (row * s.w + column) * s.c;
            for (std::int64_t i = 0; i < s.c; ++i) to[i] += dy[i] * scale;
          }
        }
      }
    }
  }
}

// ---- definitions

std::vector<Spec> avg_pool2d_infer(const Site& site) {
  const Shape y = pooled("avg_pool2d", site.inputs[0], site.attributes.as<Pool2d>(), 0);
  return {{y, DType::f32, site.inputs[0].layout}};
}

Kernel avg_pool2d_cpu(const Site& site) {
  const Windows s(site.inputs[0].shape, site.outputs[0].shape, site.attributes.as<Pool2d>());
  return {[s](const Args& a) { pool(s, a.in<float>(0), a.out<float>()); }};
}

std::vector<Spec> avg_pool2d_grad_infer(const Site& site) {
  const auto g = site.attributes.as<PoolGradient>();
  Spec dx = site.inputs[0];
  dx.shape[2] = g.h, dx.shape[3] = g.w;
  return {dx};
}

Kernel avg_pool2d_grad_cpu(const Site& site) {
  const Windows s(site.outputs[0].shape, site.inputs[0].shape,
                  site.attributes.as<PoolGradient>().pool);
  return {[s](const Args& a) { unpool(s, a.in<float>(0), a.out<float>()); }};
}

constexpr OpDef kAvgPool2dGrad{
    .name = "avg_pool2d_grad",  // dy -> dx
    .infer = avg_pool2d_grad_infer,
    .wants = {Layout::channels_last},
    .cuts = row_by_row<1>,
    .cpu = avg_pool2d_grad_cpu,
    .cuda = kCuda ? cuda::avg_pool2d_grad : nullptr,
};

constexpr OpDef kAvgPool2d{
    .name = "avg_pool2d",
    .infer = avg_pool2d_infer,
    .backward = [](const Backward& b) -> std::vector<Tensor> {
      const Shape& x = b.inputs[0].shape();
      const PoolGradient gradient{b.attributes.as<Pool2d>(), x[2], x[3]};
      return b.dy[0].graph->add(kAvgPool2dGrad, {b.dy[0]}, gradient);
    },
    .wants = {Layout::channels_last},
    .cuts = row_by_row<1>,
    .cpu = avg_pool2d_cpu,
    .cuda = kCuda ? cuda::avg_pool2d : nullptr,
};

}  // namespace

Tensor avg_pool2d(Tensor x, const Pool2d& settings) {
  return x.graph->add(kAvgPool2d, {x}, settings)[0];
}

Tensor global_avg_pool2d(Tensor x) {
  check_image("global_avg_pool2d", "x", Spec{x.shape()});
  const auto h = static_cast<std::int32_t>(x.shape()[2]),
             w = static_cast<std::int32_t>(x.shape()[3]);
  return avg_pool2d(x, {.size = {h, w}, .stride = {1, 1}, .padding = {0, 0}});
}

}  // namespace poolgrad

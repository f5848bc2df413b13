// Pooling and upsampling of channels-last images. Gradients are gathered by the pixel that they
// belong to, window by window as the CPU adds them: no atomics, the same bits each time.
#include "engine/cuda/kernels.h"
#include "engine/cuda/launch.h"
#include "engine/ops/expressions.h"
#include "engine/ops/settings.h"
#include "engine/ops/window.h"

namespace poolgrad::cuda {
namespace {

constexpr std::uint8_t kNoWinner = 255;

/// Where value `i` of an image tensor [n, h, w, c] stands.
struct Pixel {
  std::int64_t image, row, column, channel;
  POOLGRAD_BOTH Pixel(std::int64_t i, std::int64_t h, std::int64_t w, std::int64_t c)
      : image(i / (h * w * c)), row(i / (w * c) % h), column(i / c % w), channel(i % c) {}
};

/// The windows that see a row (or column): [begin, end) along its axis.
struct Range {
  std::int64_t begin, end;
  POOLGRAD_BOTH Range(std::int64_t at, std::int64_t size, std::int64_t stride, std::int64_t padding,
                      std::int64_t windows)
      : begin(at + padding < size ? 0 : (at + padding - size) / stride + 1),
        end((at + padding) / stride + 1) {
    if (end > windows) end = windows;
  }
};

struct MaxPool {
  Windows s;
  bool relu;
  const float* x;
  float* y;
  std::uint8_t* winner;

  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const Pixel p(i, s.oh, s.ow, s.c);
    const Window v(s, p.row, p.column);
    const float* from = x + p.image * s.h * s.w * s.c + p.channel;
    float best = from[(v.row * s.w + v.column) * s.c];
    std::int64_t at = v.first_h * s.size_w + v.first_w;
    for (std::int64_t row = v.row; row < v.row_end; ++row) {
      for (std::int64_t column = v.column; column < v.column_end; ++column) {
        const float next = from[(row * s.w + column) * s.c];
        if (!expressions::wins(next, best)) continue;
        best = next;
        at = (v.first_h + row - v.row) * s.size_w + v.first_w + column - v.column;
      }
    }
    if (relu && !(best > 0.0F)) at = kNoWinner;
    y[i] = relu ? expressions::relu(best) : best;
    winner[i] = static_cast<std::uint8_t>(at);
  }
};

struct MaxPoolGrad {
  Windows s;
  const float* dy;
  const std::uint8_t* winner;
  float* dx;

  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const Pixel p(i, s.h, s.w, s.c);
    const Range rows(p.row, s.size_h, s.stride_h, s.padding_h, s.oh),
        columns(p.column, s.size_w, s.stride_w, s.padding_w, s.ow);
    float sum = 0.0F;
    for (std::int64_t oy = rows.begin; oy < rows.end; ++oy) {
      for (std::int64_t ox = columns.begin; ox < columns.end; ++ox) {
        const std::int64_t from = ((p.image * s.oh + oy) * s.ow + ox) * s.c + p.channel;
        const std::int64_t place = (p.row - (oy * s.stride_h - s.padding_h)) * s.size_w + p.column -
                                   (ox * s.stride_w - s.padding_w);
        sum += winner[from] == static_cast<std::uint8_t>(place) ? dy[from] : 0.0F;
      }
    }
    dx[i] = sum;
  }
};

struct AvgPool {
  Windows s;
  const float* x;
  float* y;

  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const Pixel p(i, s.oh, s.ow, s.c);
    const Window v(s, p.row, p.column);
    const float* from = x + p.image * s.h * s.w * s.c + p.channel;
    float sum = 0.0F;
    for (std::int64_t row = v.row; row < v.row_end; ++row) {
      for (std::int64_t column = v.column; column < v.column_end; ++column)
        sum += from[(row * s.w + column) * s.c];
    }
    y[i] = sum * (1.0F / static_cast<float>(s.size_h * s.size_w));
  }
};

struct AvgPoolGrad {
  Windows s;
  const float* dy;
  float* dx;

  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const Pixel p(i, s.h, s.w, s.c);
    const Range rows(p.row, s.size_h, s.stride_h, s.padding_h, s.oh),
        columns(p.column, s.size_w, s.stride_w, s.padding_w, s.ow);
    const float scale = 1.0F / static_cast<float>(s.size_h * s.size_w);
    float sum = 0.0F;
    for (std::int64_t oy = rows.begin; oy < rows.end; ++oy) {
      for (std::int64_t ox = columns.begin; ox < columns.end; ++ox)
        sum += dy[((p.image * s.oh + oy) * s.ow + ox) * s.c + p.channel] * scale;
    }
    dx[i] = sum;
  }
};

/// x [n, h, w, c] and y [n, h · fh, w · fw, c].
struct Enlarged {
  std::int64_t h, w, c, fh, fw;
};

struct Upsample {
  Enlarged s;
  const float* x;
  float* y;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const Pixel p(i, s.h * s.fh, s.w * s.fw, s.c);
    y[i] = x[((p.image * s.h + p.row / s.fh) * s.w + p.column / s.fw) * s.c + p.channel];
  }
};

struct UpsampleGrad {
  Enlarged s;
  const float* dy;
  float* dx;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const Pixel p(i, s.h, s.w, s.c);
    float sum = 0.0F;
    for (std::int64_t row = p.row * s.fh; row < (p.row + 1) * s.fh; ++row) {
      for (std::int64_t column = p.column * s.fw; column < (p.column + 1) * s.fw; ++column)
        sum += dy[((p.image * s.h * s.fh + row) * s.w * s.fw + column) * s.c + p.channel];
    }
    dx[i] = sum;
  }
};

Enlarged enlarged(const Shape& x, const Site& site) {
  const auto factor = site.attributes.as<std::array<std::int32_t, 2>>();
  return {x[2], x[3], x[1], factor[0], factor[1]};
}

Windows backward_windows(const Site& site) {
  return {site.outputs[0].shape, site.inputs[0].shape, site.attributes.as<PoolGradient>().pool};
}

}  // namespace

Kernel max_pool2d(const Site& site) {
  const auto settings = site.attributes.as<settings::MaxPool2d>();
  const Windows s(site.inputs[0].shape, site.outputs[0].shape, settings.pool);
  return {[queue = Queue("max_pool2d", site), count = site.outputs[0].shape.count(), s,
           relu = settings.relu](const Args& a) {
    each(queue, count, MaxPool{s, relu, a.in<float>(0), a.out<float>(), a.out<std::uint8_t>(1)});
  }};
}

Kernel max_pool2d_grad(const Site& site) {
  return {[queue = Queue("max_pool2d_grad", site), count = site.outputs[0].shape.count(),
           s = backward_windows(site)](const Args& a) {
    each(queue, count, MaxPoolGrad{s, a.in<float>(0), a.in<std::uint8_t>(1), a.out<float>()});
  }};
}

Kernel avg_pool2d(const Site& site) {
  const Windows s(site.inputs[0].shape, site.outputs[0].shape, site.attributes.as<Pool2d>());
  return {
      [queue = Queue("avg_pool2d", site), count = site.outputs[0].shape.count(), s](const Args& a) {
        each(queue, count, AvgPool{s, a.in<float>(0), a.out<float>()});
      }};
}

Kernel avg_pool2d_grad(const Site& site) {
  return {[queue = Queue("avg_pool2d_grad", site), count = site.outputs[0].shape.count(),
           s = backward_windows(site)](const Args& a) {
    each(queue, count, AvgPoolGrad{s, a.in<float>(0), a.out<float>()});
  }};
}

Kernel upsample_nearest2d(const Site& site) {
  return {[queue = Queue("upsample_nearest2d", site), count = site.outputs[0].shape.count(),
           s = enlarged(site.inputs[0].shape, site)](const Args& a) {
    each(queue, count, Upsample{s, a.in<float>(0), a.out<float>()});
  }};
}

Kernel upsample_nearest2d_grad(const Site& site) {
  return {[queue = Queue("upsample_nearest2d_grad", site), count = site.outputs[0].shape.count(),
           s = enlarged(site.outputs[0].shape, site)](const Args& a) {
    each(queue, count, UpsampleGrad{s, a.in<float>(0), a.out<float>()});
  }};
}

}  // namespace poolgrad::cuda

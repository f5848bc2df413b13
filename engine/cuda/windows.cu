// Pooling and upsampling of channels-last images: some neighbouring channels of a pixel at a time.
// Gradients are gathered by the pixel that they belong to, window by window as the CPU adds them:
// no atomics, the same bits each time.
#include "engine/cuda/cast.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/launch.h"
#include "engine/ops/expressions.h"
#include "engine/ops/settings.h"
#include "engine/ops/window.h"

namespace poolgrad::cuda {
namespace {

constexpr std::uint8_t kNoWinner = 255;

/// Pixel `i` of images [n, h, w].
struct Pixel {
  std::int64_t image, row, column;
  POOLGRAD_BOTH Pixel(std::int64_t i, const Divisor& h, const Divisor& w)
      : image(i), row(0), column(split(image, w)) {
    row = split(image, h);
  }
};

/// The windows that see a row (or column): [begin, end) along its axis.
struct Range {
  std::int64_t begin, end;
  POOLGRAD_BOTH Range(std::int64_t at, std::int64_t size, const Divisor& stride,
                      std::int64_t padding, std::int64_t windows)
      : begin(at + padding < size ? 0 : stride.quotient(at + padding - size) + 1),
        end(stride.quotient(at + padding) + 1) {
    if (end > windows) end = windows;
  }
};

/// Windows of y by pixel of y.
struct Forward {
  Windows s;
  Divisor oh, ow;
  explicit Forward(const Windows& windows) : s(windows), oh(s.oh), ow(s.ow) {}
  [[nodiscard]] POOLGRAD_BOTH std::int64_t pixels() const { return s.n * s.oh * s.ow; }
};

/// Windows of y by pixel of x, which lies in several.
struct Backward {
  Windows s;
  Divisor h, w, stride_h, stride_w;
  explicit Backward(const Windows& windows)
      : s(windows), h(s.h), w(s.w), stride_h(s.stride_h), stride_w(s.stride_w) {}
  [[nodiscard]] POOLGRAD_BOTH std::int64_t pixels() const { return s.n * s.h * s.w; }

  /// visit(place, row, column): the pixel is value `place` of the window at that row and column of
  /// y.
  template <typename F>
  POOLGRAD_BOTH void each_window(const Pixel& p, const F& visit) const {
    const Range rows(p.row, s.size_h, stride_h, s.padding_h, s.oh),
        columns(p.column, s.size_w, stride_w, s.padding_w, s.ow);
    for (std::int64_t oy = rows.begin; oy < rows.end; ++oy) {
      for (std::int64_t ox = columns.begin; ox < columns.end; ++ox) {
        const std::int64_t place = (p.row - (oy * s.stride_h - s.padding_h)) * s.size_w + p.column -
                                   (ox * s.stride_w - s.padding_w);
        visit(place, (p.image * s.oh + oy) * s.ow + ox);
      }
    }
  }
};

template <typename T, int N>
struct MaxPool {
  Forward f;
  bool relu;
  const T* x;
  T* y;
  std::uint8_t* winner;

  POOLGRAD_BOTH void operator()(std::int64_t channel, const Steps& steps) const {
    const Windows& s = f.s;
    for (std::int64_t i = steps.first; i < f.pixels(); i += steps.step) {
      const Pixel p(i, f.oh, f.ow);
      const Window v(s, p.row, p.column);
      const T* const from = x + p.image * s.h * s.w * s.c + channel * N;
      auto best = load<N>(from + (v.row * s.w + v.column) * s.c);
      Few<std::uint8_t, N> at;
      for (int k = 0; k < N; ++k)
        at[k] = static_cast<std::uint8_t>(v.first_h * s.size_w + v.first_w);
      for (std::int64_t row = v.row; row < v.row_end; ++row) {
        for (std::int64_t column = v.column; column < v.column_end; ++column) {
          const auto next = load<N>(from + (row * s.w + column) * s.c);
          const auto place = static_cast<std::uint8_t>((v.first_h + row - v.row) * s.size_w +
                                                       v.first_w + column - v.column);
          for (int k = 0; k < N; ++k) {
            const bool better = expressions::wins(next[k], best[k]);
            at[k] = better ? place : at[k];
            best[k] = better ? next[k] : best[k];
          }
        }
      }
      for (int k = 0; relu && k < N; ++k) {
        if (!(best[k] > 0.0F)) at[k] = kNoWinner;
        best[k] = expressions::relu(best[k]);
      }
      store(y + i * s.c + channel * N, best);
      store(winner + i * s.c + channel * N, at);
    }
  }
};

template <typename T, int N>
struct MaxPoolGrad {
  Backward b;
  const T* dy;
  const std::uint8_t* winner;
  T* dx;

  POOLGRAD_BOTH void operator()(std::int64_t channel, const Steps& steps) const {
    for (std::int64_t i = steps.first; i < b.pixels(); i += steps.step) {
      Few<float, N> sum{};
      b.each_window(Pixel(i, b.h, b.w), [&](std::int64_t place, std::int64_t window) {
        const std::int64_t from = window * b.s.c + channel * N;
        const auto winners = load<N>(winner + from);
        const auto slopes = load<N>(dy + from);
        for (int k = 0; k < N; ++k)
          sum[k] += winners[k] == static_cast<std::uint8_t>(place) ? slopes[k] : 0.0F;
      });
      store(dx + i * b.s.c + channel * N, sum);
    }
  }
};

template <typename T, int N>
struct AvgPool {
  Forward f;
  const T* x;
  T* y;

  POOLGRAD_BOTH void operator()(std::int64_t channel, const Steps& steps) const {
    const Windows& s = f.s;
    const float scale = 1.0F / static_cast<float>(s.size_h * s.size_w);
    for (std::int64_t i = steps.first; i < f.pixels(); i += steps.step) {
      const Pixel p(i, f.oh, f.ow);
      const Window v(s, p.row, p.column);
      const T* const from = x + p.image * s.h * s.w * s.c + channel * N;
      Few<float, N> sum{};
      for (std::int64_t row = v.row; row < v.row_end; ++row) {
        for (std::int64_t column = v.column; column < v.column_end; ++column) {
          const auto next = load<N>(from + (row * s.w + column) * s.c);
          for (int k = 0; k < N; ++k) sum[k] += next[k];
        }
      }
      for (int k = 0; k < N; ++k) sum[k] *= scale;
      store(y + i * s.c + channel * N, sum);
    }
  }
};

template <typename T, int N>
struct AvgPoolGrad {
  Backward b;
  const T* dy;
  T* dx;

  POOLGRAD_BOTH void operator()(std::int64_t channel, const Steps& steps) const {
    const float scale = 1.0F / static_cast<float>(b.s.size_h * b.s.size_w);
    for (std::int64_t i = steps.first; i < b.pixels(); i += steps.step) {
      Few<float, N> sum{};
      b.each_window(Pixel(i, b.h, b.w), [&](std::int64_t, std::int64_t window) {
        const auto slopes = load<N>(dy + window * b.s.c + channel * N);
        for (int k = 0; k < N; ++k) sum[k] += slopes[k] * scale;
      });
      store(dx + i * b.s.c + channel * N, sum);
    }
  }
};

/// x [n, h, w, c] and y [n, h · fh, w · fw, c].
struct Enlarged {
  std::int64_t n, h, w, c;
  Divisor fh, fw;  // the factors

  Enlarged(const Shape& x, const Site& site)
      : n(x[0]),
        h(x[2]),
        w(x[3]),
        c(x[1]),
        fh(site.attributes.as<std::array<std::int32_t, 2>>()[0]),
        fw(site.attributes.as<std::array<std::int32_t, 2>>()[1]) {}
};

template <typename T, int N>
struct Upsample {
  Enlarged s;
  Divisor height, width;  // of y
  const T* x;
  T* y;
  POOLGRAD_BOTH void operator()(std::int64_t channel, const Steps& steps) const {
    const std::int64_t pixels = s.n * height.by() * width.by();
    for (std::int64_t i = steps.first; i < pixels; i += steps.step) {
      const Pixel p(i, height, width);
      const std::int64_t from =
          (p.image * s.h + s.fh.quotient(p.row)) * s.w + s.fw.quotient(p.column);
      store(y + i * s.c + channel * N, load<N>(x + from * s.c + channel * N));
    }
  }
};

template <typename T, int N>
struct UpsampleGrad {
  Enlarged s;
  Divisor height, width;  // of x
  const T* dy;
  T* dx;
  POOLGRAD_BOTH void operator()(std::int64_t channel, const Steps& steps) const {
    const std::int64_t fh = s.fh.by(), fw = s.fw.by();
    for (std::int64_t i = steps.first; i < s.n * s.h * s.w; i += steps.step) {
      const Pixel p(i, height, width);
      Few<float, N> sum{};
      for (std::int64_t row = p.row * fh; row < (p.row + 1) * fh; ++row) {
        for (std::int64_t column = p.column * fw; column < (p.column + 1) * fw; ++column) {
          const std::int64_t from = (p.image * s.h * fh + row) * s.w * fw + column;
          const auto slopes = load<N>(dy + from * s.c + channel * N);
          for (int k = 0; k < N; ++k) sum[k] += slopes[k];
        }
      }
      store(dx + i * s.c + channel * N, sum);
    }
  }
};

/// make(a, Of<T>, Width<N>) answers the body: T as `site` has it, N as addresses and channels
/// allow.
template <typename Make>
Kernel by_pixel(const char* op, const Site& site, const Make& make) {
  const Shape& shape = site.outputs[0].shape;
  return by_dtype(site, {{0}, {0}}, [&]<typename T>(Of<T> of) -> Kernel {
    return {[=, queue = Queue(op, site), channels = shape[1],
             pixels = shape.count() / shape[1]](const Args& a) {
      by_width<kFit<T>>(channels, {a.inputs[0], a.outputs[0]}, [&]<int N>(Width<N> n) {
        each_column(queue, pixels, channels / N, make(a, of, n));
      });
    }};
  });
}

}  // namespace

Kernel max_pool2d(const Site& site) {
  const auto settings = site.attributes.as<settings::MaxPool2d>();
  const Forward f(Windows(site.inputs[0].shape, site.outputs[0].shape, settings.pool));
  return by_pixel("max_pool2d", site,
                  [f, relu = settings.relu]<typename T, int N>(const Args& a, Of<T>, Width<N>) {
                    return MaxPool<T, N>{f, relu, a.in<T>(0), a.out<T>(), a.out<std::uint8_t>(1)};
                  });
}

Kernel max_pool2d_grad(const Site& site) {
  const Backward b(Windows(site.outputs[0].shape, site.inputs[0].shape,
                           site.attributes.as<PoolGradient>().pool));
  return by_pixel("max_pool2d_grad", site, [b]<typename T, int N>(const Args& a, Of<T>, Width<N>) {
    return MaxPoolGrad<T, N>{b, a.in<T>(0), a.in<std::uint8_t>(1), a.out<T>()};
  });
}

Kernel avg_pool2d(const Site& site) {
  const Forward f(
      Windows(site.inputs[0].shape, site.outputs[0].shape, site.attributes.as<Pool2d>()));
  return by_pixel("avg_pool2d", site, [f]<typename T, int N>(const Args& a, Of<T>, Width<N>) {
    return AvgPool<T, N>{f, a.in<T>(0), a.out<T>()};
  });
}

Kernel avg_pool2d_grad(const Site& site) {
  const Backward b(Windows(site.outputs[0].shape, site.inputs[0].shape,
                           site.attributes.as<PoolGradient>().pool));
  return by_pixel("avg_pool2d_grad", site, [b]<typename T, int N>(const Args& a, Of<T>, Width<N>) {
    return AvgPoolGrad<T, N>{b, a.in<T>(0), a.out<T>()};
  });
}

Kernel upsample_nearest2d(const Site& site) {
  const Enlarged s(site.inputs[0].shape, site);
  const Shape& y = site.outputs[0].shape;
  return by_pixel(
      "upsample_nearest2d", site,
      [s, h = Divisor(y[2]), w = Divisor(y[3])]<typename T, int N>(const Args& a, Of<T>, Width<N>) {
        return Upsample<T, N>{s, h, w, a.in<T>(0), a.out<T>()};
      });
}

Kernel upsample_nearest2d_grad(const Site& site) {
  const Shape& x = site.outputs[0].shape;
  return by_pixel("upsample_nearest2d_grad", site,
                  [s = Enlarged(x, site), h = Divisor(x[2]), w = Divisor(x[3])]<typename T, int N>(
                      const Args& a, Of<T>, Width<N>) {
                    return UpsampleGrad<T, N>{s, h, w, a.in<T>(0), a.out<T>()};
                  });
}

}  // namespace poolgrad::cuda

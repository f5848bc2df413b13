// batch_norm in the same nodes as on the CPU. Statistics, sums and parameters' gradients are f32 or
// f64 whatever the images are.
#include "engine/cuda/cast.h"
#include "engine/cuda/column_sums.h"
#include "engine/cuda/kernels.h"
#include "engine/cuda/launch.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/expressions.h"
#include "engine/ops/settings.h"

namespace poolgrad::cuda {
namespace {

using normalization::Part;

/// Normalizing with weight and bias by N channels, as a line: the same arithmetic wherever it is
/// needed, so that forward and backward agree on what a ReLU cuts off.
template <int N>
struct Line {
  Few<float, N> scale, shift;
  bool relu;

  POOLGRAD_BOTH float operator()(float x, int k) const { return x * scale[k] + shift[k]; }
  /// dy behind the ReLU.
  POOLGRAD_BOTH float cut(float dy, float x, int k) const {
    return relu && !((*this)(x, k) > 0.0F) ? 0.0F : dy;
  }
};

struct Lines {
  const float *mean, *rstd, *weight, *bias;
  bool relu;

  template <int N>
  POOLGRAD_BOTH Line<N> at(std::int64_t channel) const {
    Line<N> line{load_singly<N>(rstd + channel), load_singly<N>(bias + channel), relu};
    for (int k = 0; k < N; ++k) {
      line.scale[k] *= weight[channel + k];
      line.shift[k] -= mean[channel + k] * line.scale[k];
    }
    return line;
  }
};

/// x and x · x. Runs are added up from their first value on, so that a mean of 1000 deviations
/// costs no digit of the variance.
template <typename T>
struct Squares {
  static constexpr int kSums = 2;
  const T* x;

  template <int N>
  POOLGRAD_BOTH void run(const Run& run, std::int64_t, double* sums) const {
    const auto origin = load<N>(x + run.first);
    Few<float, N> sum{}, squares{};
    for (int k = 1; k < run.count; ++k) {
      const auto next = load<N>(x + run.first + k * run.step);
      for (int j = 0; j < N; ++j) {
        const float beyond = next[j] - origin[j];
        sum[j] += beyond;
        squares[j] += beyond * beyond;
      }
    }
    for (int j = 0; j < N; ++j) {
      const double from = origin[j], beyond = sum[j], all = from * run.count + beyond;
      sums[j] += all;
      sums[N + j] += squares[j] + from * (all + beyond);
    }
  }
};

/// dy and dy · x, the latter by x's distance from the mean, for the same reason.
template <typename T>
struct Slopes {
  static constexpr int kSums = 2;
  const T *dy, *x;
  Lines lines;

  template <int N>
  POOLGRAD_BOTH void run(const Run& run, std::int64_t channel, double* sums) const {
    const auto line = lines.at<N>(channel);
    const auto mean = load_singly<N>(lines.mean + channel);
    Few<float, N> sum{}, products{};
    for (int k = 0; k < run.count; ++k) {
      const std::int64_t at = run.first + k * run.step;
      const auto slopes = load<N>(dy + at);
      const auto values = load<N>(x + at);
      for (int j = 0; j < N; ++j) {
        const float slope = line.cut(slopes[j], values[j], j);
        sum[j] += slope;
        products[j] += slope * (values[j] - mean[j]);
      }
    }
    for (int j = 0; j < N; ++j) {
      const double all = sum[j];
      sums[j] += all;
      sums[N + j] += products[j] + all * mean[j];
    }
  }
};

/// sums [2, channels].
struct ToSums {
  double* sums;
  std::int64_t channels;
  POOLGRAD_BOTH void operator()(std::int64_t, std::int64_t channel, const double* of) const {
    sums[channel] = of[0];
    sums[channels + channel] = of[1];
  }
};

struct Statistics {
  const double* sums;
  const std::int32_t* rows;
  std::int64_t channels, pixels;
  double epsilon;
  float *mean, *rstd;
  Fault* fault;
  const char* op;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const std::int64_t count = *rows * pixels;
    if (count < 2) raise(fault, Fault::Kind::few_rows, op, 0, *rows, 2);
    const expressions::Moments m =
        expressions::moments(sums[i], sums[channels + i], static_cast<double>(count));
    mean[i] = static_cast<float>(m.mean);
    rstd[i] = expressions::rstd(m.variance, epsilon);
  }
};

struct Track {
  const double* sums;
  const std::int32_t* rows;
  std::int64_t channels, pixels;
  double share;
  float *mean, *variance;
  std::int64_t* batches;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    if (i == 0) ++*batches;
    const auto count = static_cast<double>(*rows * pixels);
    const expressions::Moments m = expressions::moments(sums[i], sums[channels + i], count);
    mean[i] = expressions::moved(mean[i], m.mean, share);
    variance[i] = expressions::moved(variance[i], m.variance * count / (count - 1.0), share);
  }
};

/// y may be x. Pixels from the batch's rows on are 0.
template <typename T, int N>
struct Apply {
  Lines lines;
  const T* x;
  Counting counting;
  std::int64_t channels;
  T* y;

  POOLGRAD_BOTH void operator()(std::int64_t column, const Steps& s) const {
    const auto line = lines.at<N>(column * N);
    const std::int64_t count = counting.count(), all = counting.n * counting.pixels;
    for (std::int64_t pixel = s.first; pixel < all; pixel += s.step) {
      const std::int64_t at = pixel * channels + column * N;
      auto values = load<N>(x + at);
      for (int k = 0; k < N; ++k) {
        const float value = line(values[k], k);
        values[k] = pixel >= count ? 0.0F : line.relu ? expressions::relu(value) : value;
      }
      store(y + at, values);
    }
  }
};

/// 1 / sqrt(variance + epsilon): of running statistics.
struct MakeRstd {
  const float* variance;
  double epsilon;
  float* rstd;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    rstd[i] = expressions::rstd(static_cast<double>(variance[i]), epsilon);
  }
};

struct ParametersGrad {
  const double* sums;
  const float *mean, *rstd;
  std::int64_t channels;
  float *weight, *bias;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    weight[i] = static_cast<float>(expressions::norm_weight_grad(
        sums[i], sums[channels + i], static_cast<double>(mean[i]), static_cast<double>(rstd[i])));
    bias[i] = static_cast<float>(sums[i]);
  }
};

struct MakeSlopes {
  const float *mean, *rstd, *weight;
  const double* sums;
  const std::int32_t* rows;
  std::int64_t channels, pixels;
  expressions::NormSlope* slopes;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    slopes[i] = expressions::norm_slope(mean[i], rstd[i], weight[i], sums[i], sums[channels + i],
                                        static_cast<double>(*rows * pixels));
  }
};

/// dx may be dy.
template <typename T, int N>
struct Grad {
  Lines lines;
  const expressions::NormSlope* slopes;
  const T *dy, *x;
  Counting counting;
  std::int64_t channels;
  T* dx;

  POOLGRAD_BOTH void operator()(std::int64_t column, const Steps& s) const {
    const auto line = lines.at<N>(column * N);
    Few<expressions::NormSlope, N> by;
    for (int k = 0; k < N; ++k) by[k] = slopes[column * N + k];
    const std::int64_t count = counting.count(), all = counting.n * counting.pixels;
    for (std::int64_t pixel = s.first; pixel < all; pixel += s.step) {
      const std::int64_t at = pixel * channels + column * N;
      auto values = load<N>(dy + at);
      const auto from = load<N>(x + at);
      for (int k = 0; k < N; ++k) {
        const float slope = line.cut(values[k], from[k], k);
        const float value = by[k].by_dy * slope + (by[k].by_x * from[k] + by[k].shift);
        values[k] = pixel >= count ? 0.0F : value;
      }
      store(dx + at, values);
    }
  }
};

/// What all nodes over images need.
struct Images {
  std::int64_t n, channels, pixels, first;

  Images(const Shape& x, std::int64_t first_row)
      : n(x[0]), channels(x[1]), pixels(x[2] * x[3]), first(first_row) {}

  [[nodiscard]] Counting counting(const std::int32_t* rows) const {
    return {n, pixels, first, rows};
  }
  [[nodiscard]] ColumnSums sums() const { return {n * pixels, channels}; }
};

Lines lines_of(const Args& a, int mean, bool relu) {
  return {a.in<float>(mean), a.in<float>(mean + 1), a.in<float>(mean + 2), a.in<float>(mean + 3),
          relu};
}

template <typename T>
void apply(const Queue& queue, const Images& s, const Lines& lines, const std::int32_t* rows,
           const T* x, T* y) {
  by_width<kFit<T>>(s.channels, {x, y}, [&]<int N>(Width<N>) {
    each_column(queue, s.n * s.pixels, s.channels / N,
                Apply<T, N>{lines, x, s.counting(rows), s.channels, y});
  });
}

}  // namespace

Kernel batch_norm_sums(const Site& site) {
  const Images s(site.inputs[0].shape, site.attributes.as<Part>().first);
  return by_dtype(site, {{0}, {}}, [&]<typename T>(Of<T>) -> Kernel {
    return {[queue = Queue("batch_norm_sums", site), s, sums = s.sums()](const Args& a) {
              sums.run(queue, s.counting(a.in<std::int32_t>(1)), Squares<T>{a.in<T>(0)},
                       {a.inputs[0]}, a.workspace(), ToSums{a.out<double>(), s.channels});
            },
            s.sums().workspace_bytes(2)};
  });
}

Kernel batch_norm_grad_sums(const Site& site) {
  const auto part = site.attributes.as<Part>();
  const Images s(site.inputs[0].shape, part.first);
  return by_dtype(site, {{0, 1}, {}}, [&]<typename T>(Of<T>) -> Kernel {
    return {[queue = Queue("batch_norm_grad_sums", site), s, sums = s.sums(),
             relu = part.relu](const Args& a) {
              sums.run(queue, s.counting(a.in<std::int32_t>(6)),
                       Slopes<T>{a.in<T>(0), a.in<T>(1), lines_of(a, 2, relu)},
                       {a.inputs[0], a.inputs[1]}, a.workspace(),
                       ToSums{a.out<double>(), s.channels});
            },
            s.sums().workspace_bytes(2)};
  });
}

Kernel batch_norm_statistics(const Site& site) {
  const auto s = site.attributes.as<settings::Statistics>();
  return {[queue = Queue("batch_norm_statistics", site), channels = site.inputs[0].shape[1], s,
           fault = site.context->fault](const Args& a) {
    each(queue, channels,
         Statistics{a.in<double>(0), a.in<std::int32_t>(1), channels, s.pixels, s.settings.epsilon,
                    a.out<float>(0), a.out<float>(1), fault, "batch_norm"});
  }};
}

Kernel batch_norm_track(const Site& site) {
  const auto s = site.attributes.as<settings::Statistics>();
  return {[queue = Queue("batch_norm_track", site), channels = site.inputs[3].shape[1],
           s](const Args& a) {
    each(queue, channels,
         Track{a.in<double>(3), a.in<std::int32_t>(4), channels, s.pixels, s.settings.momentum,
               a.out<float>(0), a.out<float>(1), a.out<std::int64_t>(2)});
  }};
}

Kernel batch_norm(const Site& site) {
  const auto part = site.attributes.as<Part>();
  const Images s(site.inputs[0].shape, part.first);
  return by_dtype(site, {{0}, {0}}, [&]<typename T>(Of<T>) -> Kernel {
    return {[queue = Queue("batch_norm", site), s, relu = part.relu](const Args& a) {
      apply(queue, s, lines_of(a, 1, relu), a.in<std::int32_t>(5), a.in<T>(0), a.out<T>());
    }};
  });
}

Kernel batch_norm_fixed(const Site& site) {
  const auto f = site.attributes.as<settings::Fixed>();
  const Images s(site.inputs[0].shape, 0);
  return by_dtype(site, {{0}, {0}}, [&]<typename T>(Of<T>) -> Kernel {
    return {[queue = Queue("batch_norm_fixed", site), s, f](const Args& a) {
              auto* const rstd = reinterpret_cast<float*>(a.workspace());
              each(queue, s.channels, MakeRstd{a.in<float>(2), f.settings.epsilon, rstd});
              const Lines lines{a.in<float>(1), rstd, a.in<float>(3), a.in<float>(4), f.relu};
              apply(queue, s, lines, nullptr, a.in<T>(0), a.out<T>());
            },
            static_cast<std::size_t>(s.channels) * sizeof(float)};
  });
}

Kernel batch_norm_parameters_grad(const Site& site) {
  return {[queue = Queue("batch_norm_parameters_grad", site),
           channels = site.inputs[0].shape[1]](const Args& a) {
    each(queue, channels,
         ParametersGrad{a.in<double>(0), a.in<float>(1), a.in<float>(2), channels, a.out<float>(0),
                        a.out<float>(1)});
  }};
}

Kernel batch_norm_grad(const Site& site) {
  const auto part = site.attributes.as<Part>();
  const Images s(site.inputs[0].shape, part.first);
  return by_dtype(site, {{0, 1}, {0}}, [&]<typename T>(Of<T>) -> Kernel {
    return {[queue = Queue("batch_norm_grad", site), s, relu = part.relu](const Args& a) {
              auto* const slopes = reinterpret_cast<expressions::NormSlope*>(a.workspace());
              const auto* rows = a.in<std::int32_t>(7);
              const T *dy = a.in<T>(0), *x = a.in<T>(1);
              T* const dx = a.out<T>();
              each(queue, s.channels,
                   MakeSlopes{a.in<float>(2), a.in<float>(3), a.in<float>(4), a.in<double>(6), rows,
                              s.channels, s.pixels, slopes});
              by_width<kFit<T>>(s.channels, {dy, x, dx}, [&]<int N>(Width<N>) {
                each_column(queue, s.n * s.pixels, s.channels / N,
                            Grad<T, N>{lines_of(a, 2, relu), slopes, dy, x, s.counting(rows),
                                       s.channels, dx});
              });
            },
            static_cast<std::size_t>(s.channels) * sizeof(expressions::NormSlope)};
  });
}

}  // namespace poolgrad::cuda

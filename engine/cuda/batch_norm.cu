// batch_norm in the same nodes as on the CPU. Sums are made in two goes, in f64: parts of the
// pixels first, then the parts in order.
#include "engine/cuda/kernels.h"
#include "engine/cuda/launch.h"
#include "engine/cuda/pixel_sums.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/expressions.h"
#include "engine/ops/settings.h"

namespace poolgrad::cuda {
namespace {

using normalization::Part;

/// Normalizing with weight and bias, as a line: the same arithmetic wherever it is needed, so that
/// forward and backward agree on what a ReLU cuts off.
struct Line {
  const float *mean, *rstd, *weight, *bias;
  bool relu;
  POOLGRAD_BOTH float operator()(float x, std::int64_t channel) const {
    const float scale = rstd[channel] * weight[channel];
    return x * scale + (bias[channel] - mean[channel] * scale);
  }
  /// dy behind the ReLU.
  POOLGRAD_BOTH float cut(float dy, float x, std::int64_t channel) const {
    return relu && !((*this)(x, channel) > 0.0F) ? 0.0F : dy;
  }
};

struct Squares {  // x and x · x
  const float* x;
  POOLGRAD_BOTH double first(std::int64_t at, std::int64_t) const {
    return static_cast<double>(x[at]);
  }
  POOLGRAD_BOTH double second(std::int64_t at, std::int64_t) const {
    return static_cast<double>(x[at]) * static_cast<double>(x[at]);
  }
};

struct Slopes {  // dy and dy · x
  const float *dy, *x;
  Line line;
  POOLGRAD_BOTH double first(std::int64_t at, std::int64_t channel) const {
    return static_cast<double>(line.cut(dy[at], x[at], channel));
  }
  POOLGRAD_BOTH double second(std::int64_t at, std::int64_t channel) const {
    return first(at, channel) * static_cast<double>(x[at]);
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

/// y may be x.
struct Apply {
  Line line;
  const float* x;
  const std::int32_t* rows;
  std::int64_t first, per_row, channels;
  float* y;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const float value = line(x[i], i % channels);
    y[i] = i / per_row + first >= *rows ? 0.0F : line.relu ? expressions::relu(value) : value;
  }
};

struct ApplyFixed {
  const float *mean, *variance, *weight, *bias;
  double epsilon;
  bool relu;
  std::int64_t channels;
  const float* x;
  float* y;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const std::int64_t c = i % channels;
    const float scale = expressions::rstd(static_cast<double>(variance[c]), epsilon) * weight[c];
    const float value = x[i] * scale + (bias[c] - mean[c] * scale);
    y[i] = relu ? expressions::relu(value) : value;
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
struct Grad {
  Line line;
  const expressions::NormSlope* slopes;
  const float *dy, *x;
  const std::int32_t* rows;
  std::int64_t first, per_row, channels;
  float* dx;
  POOLGRAD_BOTH void operator()(std::int64_t i) const {
    const std::int64_t c = i % channels;
    const expressions::NormSlope by = slopes[c];
    const float slope = line.cut(dy[i], x[i], c);
    dx[i] = i / per_row + first >= *rows ? 0.0F : by.by_dy * slope + (by.by_x * x[i] + by.shift);
  }
};

/// What all nodes over images need.
struct Images {
  std::int64_t n, channels, pixels, first, per_row, count;

  Images(const Shape& x, std::int64_t first_row)
      : n(x[0]),
        channels(x[1]),
        pixels(x[2] * x[3]),
        first(first_row),
        per_row(channels * pixels),
        count(x.count()) {}
};

Line line_of(const Args& a, int mean, bool relu) {
  return {a.in<float>(mean), a.in<float>(mean + 1), a.in<float>(mean + 2), a.in<float>(mean + 3),
          relu};
}

}  // namespace

Kernel batch_norm_sums(const Site& site) {
  const Images s(site.inputs[0].shape, site.attributes.as<Part>().first);
  const PixelSums sums{s.n, s.pixels, s.channels, s.first};
  return {[queue = Queue("batch_norm_sums", site), sums](const Args& a) {
            sum_pixels(queue, sums, Squares{a.in<float>(0)}, a.in<std::int32_t>(1), a.workspace(),
                       a.out<double>());
          },
          sums.workspace_bytes()};
}

Kernel batch_norm_grad_sums(const Site& site) {
  const auto part = site.attributes.as<Part>();
  const Images s(site.inputs[0].shape, part.first);
  const PixelSums sums{s.n, s.pixels, s.channels, s.first};
  return {[queue = Queue("batch_norm_grad_sums", site), sums, relu = part.relu](const Args& a) {
            sum_pixels(queue, sums, Slopes{a.in<float>(0), a.in<float>(1), line_of(a, 2, relu)},
                       a.in<std::int32_t>(6), a.workspace(), a.out<double>());
          },
          sums.workspace_bytes()};
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
  return {[queue = Queue("batch_norm", site), s, relu = part.relu](const Args& a) {
    each(queue, s.count,
         Apply{line_of(a, 1, relu), a.in<float>(0), a.in<std::int32_t>(5), s.first, s.per_row,
               s.channels, a.out<float>()});
  }};
}

Kernel batch_norm_fixed(const Site& site) {
  const auto s = site.attributes.as<settings::Fixed>();
  const Shape& x = site.inputs[0].shape;
  return {[queue = Queue("batch_norm_fixed", site), count = x.count(), channels = x[1],
           s](const Args& a) {
    each(queue, count,
         ApplyFixed{a.in<float>(1), a.in<float>(2), a.in<float>(3), a.in<float>(4),
                    s.settings.epsilon, s.relu, channels, a.in<float>(0), a.out<float>()});
  }};
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
  return {[queue = Queue("batch_norm_grad", site), s, relu = part.relu](const Args& a) {
            auto* const slopes = reinterpret_cast<expressions::NormSlope*>(a.workspace());
            const auto* rows = a.in<std::int32_t>(7);
            each(queue, s.channels,
                 MakeSlopes{a.in<float>(2), a.in<float>(3), a.in<float>(4), a.in<double>(6), rows,
                            s.channels, s.pixels, slopes});
            each(queue, s.count,
                 Grad{line_of(a, 2, relu), slopes, a.in<float>(0), a.in<float>(1), rows, s.first,
                      s.per_row, s.channels, a.out<float>()});
          },
          static_cast<std::size_t>(s.channels) * sizeof(expressions::NormSlope)};
}

}  // namespace poolgrad::cuda

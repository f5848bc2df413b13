// batch_norm: y = (x − mean) · rstd · weight + bias by channel, in three nodes where others have
// one: sums over the rows that count; mean and rstd from the sums; and y, row by row. Between them
// the parts of a batch wait for each other. Running statistics are moved by a node of their own, so
// the rest is pure. Images are channels-last.
//
// Rows beyond rows() count for nothing: y and gradients there are 0, which stays finite however
// little the rows that count differ.
#include "engine/ops/batch_norm.h"

#include "engine/cuda/kernels.h"
#include "engine/ops.h"
#include "engine/ops/check.h"
#include "engine/ops/expressions.h"
#include "engine/ops/settings.h"

namespace poolgrad::normalization {

Attributes part_of(const Attributes& attributes, Rows rows) {
  auto part = attributes.as<Part>();
  part.first += rows.begin;
  return part;
}

std::vector<Spec> sums_infer(const Site& site) {
  check_image("batch_norm", "x", site.inputs[0]);
  return {{{2, site.inputs[0].shape[1]}, DType::f64}};
}

Line line(const float* mean, const float* rstd, const float* weight, const float* bias, bool relu,
          const Arrays& arrays, const Args& a) {
  float *scale = arrays.at(a, 0), *shift = arrays.at(a, 1);
  for (std::int64_t i = 0; i < arrays.channels; ++i) {
    scale[i] = rstd[i] * weight[i];
    shift[i] = bias[i] - mean[i] * scale[i];
  }
  return {scale, shift, relu};
}

}  // namespace poolgrad::normalization

namespace poolgrad {
namespace {

using namespace normalization;

using settings::Statistics;

using settings::Fixed;

// ---- infer

/// x, mean, rstd or variance, weight, bias.
std::vector<Spec> apply_infer(const Site& site) {
  check_image("batch_norm", "x", site.inputs[0]);
  constexpr std::array<std::string_view, 5> kNames{"x", "mean", "variance", "weight", "bias"};
  const Shape& x = site.inputs[0].shape;
  for (std::size_t i = 1; i < kNames.size(); ++i) {
    if (site.inputs[i] == Spec{{x[1]}}) continue;
    throw ShapeError(text("batch_norm: ", kNames[i], " ", site.inputs[i].shape, " of ",
                          site.inputs[i].dtype, " does not fit x ", x, "; make it [", x[1],
                          "] of float32"));
  }
  return {site.inputs[0]};
}

std::vector<Spec> statistics_infer(const Site& site) {
  const auto s = site.attributes.as<Statistics>();
  if (s.rows * s.pixels < 2) {
    throw ShapeError(
        "batch_norm: x has one value per channel, which has no variance; take a larger batch");
  }
  const Spec per_channel{{site.inputs[0].shape[1]}};
  return {per_channel, per_channel};
}

std::vector<Spec> track_infer(const Site& site) {
  const std::int64_t channels = site.inputs[3].shape[1];
  for (const std::size_t i : {0U, 1U}) {
    if (site.inputs[i] == Spec{{channels}}) continue;
    throw ShapeError(text("batch_norm: running ", i == 0 ? "mean " : "variance ",
                          site.inputs[i].shape, " of ", site.inputs[i].dtype,
                          " does not fit x with ", channels, " channels; make it [", channels,
                          "] of float32"));
  }
  if (site.inputs[2] != Spec{{}, DType::i64}) {
    throw ShapeError(text("batch_norm: the number of batches ", site.inputs[2].shape, " of ",
                          site.inputs[2].dtype, " must be a scalar of int64"));
  }
  return {site.inputs.begin(), site.inputs.begin() + 3};
}

// ---- kernels

Kernel sums_cpu(const Site& site) {
  const int x = site.inputs.size() == 3 ? 1 : 0;  // the twin takes the sums first
  const Images images(site.inputs[static_cast<std::size_t>(x)].shape, site.attributes.as<Part>());
  return {[=](const Args& a) {
    const Extent counting = images.counting(*a.in<std::int32_t>(x + 1));
    sums(a.in<float>(x), counting, x == 1, a.out<double>());
  }};
}

/// How many values of a channel count.
double count_of(const Statistics& s, std::int64_t rows) {
  if (rows * s.pixels < 2) [[unlikely]] {
    throw ArgumentError(
        "batch_norm: 1 row has one value per channel, which has no variance; feed 2 rows or more");
  }
  return static_cast<double>(rows * s.pixels);
}

expressions::Moments moments_of(const double* sums, std::int64_t channels, std::int64_t i,
                                double count) {
  return expressions::moments(sums[i], sums[channels + i], count);
}

Kernel statistics_cpu(const Site& site) {
  const auto s = site.attributes.as<Statistics>();
  return {[s, channels = site.inputs[0].shape[1]](const Args& a) {
    const double count = count_of(s, *a.in<std::int32_t>(1));
    for (std::int64_t i = 0; i < channels; ++i) {
      const auto moments = moments_of(a.in<double>(0), channels, i, count);
      a.out<float>(0)[i] = static_cast<float>(moments.mean);
      a.out<float>(1)[i] = expressions::rstd(moments.variance, s.settings.epsilon);
    }
  }};
}

Kernel track_cpu(const Site& site) {
  const auto s = site.attributes.as<Statistics>();
  return {[s, channels = site.inputs[3].shape[1]](const Args& a) {
    const double count = count_of(s, *a.in<std::int32_t>(4)), share = s.settings.momentum;
    const auto move = [share](float& running, double value) {
      running = expressions::moved(running, value, share);
    };
    for (std::int64_t i = 0; i < channels; ++i) {
      const auto moments = moments_of(a.in<double>(3), channels, i, count);
      move(a.out<float>(0)[i], moments.mean);
      move(a.out<float>(1)[i], moments.variance * count / (count - 1.0));
    }
    ++*a.out<std::int64_t>(2);
  }};
}

Kernel apply_cpu(const Site& site) {
  const auto part = site.attributes.as<Part>();
  const Images images(site.inputs[0].shape, part);
  const Arrays arrays{images.channels};
  return {[=](const Args& a) {
            const Line y = line(a.in<float>(1), a.in<float>(2), a.in<float>(3), a.in<float>(4),
                                part.relu, arrays, a);
            const Extent counting = images.counting(*a.in<std::int32_t>(5));
            apply(a.in<float>(0), counting, y, a.out<float>());
            images.clear_rest(counting, a.out<float>());
          },
          arrays.bytes(2)};
}

Kernel fixed_cpu(const Site& site) {
  const auto s = site.attributes.as<Fixed>();
  const Shape& x = site.inputs[0].shape;
  const Extent all{x[0] * x[2] * x[3], x[1]};
  const Arrays arrays{x[1]};
  return {[=](const Args& a) {
            float* rstd = arrays.at(a, 2);
            for (std::int64_t i = 0; i < arrays.channels; ++i)
              rstd[i] = expressions::rstd(a.in<float>(2)[i], s.settings.epsilon);
            const Line y =
                line(a.in<float>(1), rstd, a.in<float>(3), a.in<float>(4), s.relu, arrays, a);
            apply(a.in<float>(0), all, y, a.out<float>());
          },
          arrays.bytes(3)};
}

// ---- definitions

constexpr OpDef kSumsAdd{
    .name = "batch_norm_sums_add",  // sums, x, rows -> sums
    .infer = same_as_first,
    .wants = {std::nullopt, Layout::channels_last},
    .updates = 1,
    .cpu = sums_cpu,
};

constexpr OpDef kSums{
    .name = "batch_norm_sums",  // x, rows -> sums
    .infer = sums_infer,
    .wants = {Layout::channels_last},
    .cuts = [](const Site&) -> std::vector<Cut> {
      return {{{Share::rows}, {Share::sum}, part_of}};
    },
    .adds = &kSumsAdd,
    .cpu = sums_cpu,
    .cuda = kCuda ? cuda::batch_norm_sums : nullptr,
};

constexpr OpDef kStatistics{
    .name = "batch_norm_statistics",  // sums, rows -> mean, rstd
    .infer = statistics_infer,
    .precise = true,
    .cpu = statistics_cpu,
    .cuda = kCuda ? cuda::batch_norm_statistics : nullptr,
};

constexpr OpDef kTrack{
    .name = "batch_norm_track",  // running mean, variance, batches, sums, rows -> the first three
    .infer = track_infer,
    .updates = 3,
    .cpu = track_cpu,
    .cuda = kCuda ? cuda::batch_norm_track : nullptr,
};

/// With the ReLU behind it, for both kinds of settings.
template <typename Settings>
std::optional<Attributes> absorb_relu(const Node& self, const Node& next) {
  auto settings = self.attributes.as<Settings>();
  if (next.op != &kRelu || settings.relu) return {};
  settings.relu = true;
  return Attributes(settings);
}

constexpr OpDef kApply{
    .name = "batch_norm",  // x, mean, rstd, weight, bias, rows -> y
    .infer = apply_infer,
    .backward = normalization::backward,
    .wants = {Layout::channels_last},
    .overwrites = 0,
    .absorb = absorb_relu<Part>,
    .recompute = true,
    .cuts = [](const Site&) -> std::vector<Cut> {
      return {{{Share::rows}, {Share::rows}, part_of}};
    },
    .cpu = apply_cpu,
    .cuda = kCuda ? cuda::batch_norm : nullptr,
};

constexpr OpDef kFixed{
    .name = "batch_norm_fixed",  // x, mean, variance, weight, bias -> y
    .infer = apply_infer,
    .wants = {Layout::channels_last},
    .overwrites = 0,
    .absorb = absorb_relu<Fixed>,
    .cuts = row_by_row<1>,
    .cpu = fixed_cpu,
    .cuda = kCuda ? cuda::batch_norm_fixed : nullptr,
};

}  // namespace

Tensor batch_norm(Tensor x, Tensor weight, Tensor bias, const RunningStatistics& running,
                  const BatchNorm& settings) {
  Graph& graph = *x.graph;
  const Tensor rows = graph.rows();
  const Tensor sums = graph.add(kSums, {x, rows}, Part{})[0];
  const Shape& shape = x.shape();
  const Statistics statistics{settings, shape[0], shape[2] * shape[3]};
  const auto made = graph.add(kStatistics, {sums, rows}, statistics);
  Tensor mean = made[0];
  if (running.mean) {
    const auto moved = graph.add(
        kTrack, {running.mean, running.variance, running.batches, sums, rows}, statistics);
    mean = after(mean, {moved[0]});  // not y: between y and a ReLU nothing may stand
  }
  return graph.add(kApply, {x, mean, made[1], weight, bias, rows}, Part{})[0];
}

Tensor batch_norm_fixed(Tensor x, Tensor weight, Tensor bias, const RunningStatistics& running,
                        const BatchNorm& settings) {
  return x.graph->add(kFixed, {x, running.mean, running.variance, weight, bias},
                      Fixed{settings})[0];
}

}  // namespace poolgrad

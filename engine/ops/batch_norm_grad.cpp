// The gradient of batch_norm, in nodes like its forward half: sums over the rows that count; the
// parameters' gradients from the sums; and dx, row by row. A ReLU that batch_norm has taken is
// undone on the way, from x: neither y nor a masked dy is kept.
#include "engine/cuda/kernels.h"
#include "engine/ops.h"
#include "engine/ops/batch_norm.h"
#include "engine/ops/expressions.h"

namespace poolgrad::normalization {
namespace {

// ---- kernels

Kernel grad_sums_cpu(const Site& site) {
  const int dy = site.inputs.size() == 8 ? 1 : 0;  // the twin takes the sums first
  const auto part = site.attributes.as<Part>();
  const Images images(site.inputs[static_cast<std::size_t>(dy)].shape, part);
  const Arrays arrays{images.channels};
  return {[=](const Args& a) {
            const int mean = dy + 2;
            const Line y = line(a.in<float>(mean), a.in<float>(mean + 1), a.in<float>(mean + 2),
                                a.in<float>(mean + 3), part.relu, arrays, a);
            const Extent counting = images.counting(*a.in<std::int32_t>(mean + 4));
            grad_sums(a.in<float>(dy), a.in<float>(dy + 1), counting, y, dy == 1, a.out<double>());
          },
          arrays.bytes(2)};
}

Kernel parameters_cpu(const Site& site) {
  return {[channels = site.inputs[0].shape[1]](const Args& a) {
    const double* sums = a.in<double>(0);
    for (std::int64_t i = 0; i < channels; ++i) {
      const float mean = a.in<float>(1)[i], rstd = a.in<float>(2)[i];
      a.out<float>(0)[i] = static_cast<float>(
          expressions::norm_weight_grad(sums[i], sums[channels + i], mean, rstd));
      a.out<float>(1)[i] = static_cast<float>(sums[i]);
    }
  }};
}

Slope slope(const float* mean, const float* rstd, const float* weight, const double* sums,
            double count, const Arrays& arrays, const Args& a) {
  float *by_dy = arrays.at(a, 2), *by_x = arrays.at(a, 3), *shift = arrays.at(a, 4);
  for (std::int64_t i = 0; i < arrays.channels; ++i) {
    const expressions::NormSlope at = expressions::norm_slope(mean[i], rstd[i], weight[i], sums[i],
                                                              sums[arrays.channels + i], count);
    by_dy[i] = at.by_dy;
    by_x[i] = at.by_x;
    shift[i] = at.shift;
  }
  return {by_dy, by_x, shift};
}

Kernel grad_cpu(const Site& site) {
  const auto part = site.attributes.as<Part>();
  const Images images(site.inputs[0].shape, part);
  const Arrays arrays{images.channels};
  return {[=](const Args& a) {
            const float *mean = a.in<float>(2), *rstd = a.in<float>(3), *weight = a.in<float>(4);
            const std::int64_t rows = *a.in<std::int32_t>(7);
            const Extent counting = images.counting(rows);
            const Line y = line(mean, rstd, weight, a.in<float>(5), part.relu, arrays, a);
            const Slope by = slope(mean, rstd, weight, a.in<double>(6),
                                   static_cast<double>(rows * images.pixels), arrays, a);
            grad(a.in<float>(0), a.in<float>(1), counting, y, by, a.out<float>());
            images.clear_rest(counting, a.out<float>());
          },
          arrays.bytes(5)};
}

// ---- definitions

constexpr OpDef kGradSumsAdd{
    .name = "batch_norm_grad_sums_add",  // sums, dy, x, mean, rstd, weight, bias, rows -> sums
    .infer = same_as_first,
    .wants = {std::nullopt, Layout::channels_last, Layout::channels_last},
    .updates = 1,
    .cpu = grad_sums_cpu,
};

constexpr OpDef kGradSums{
    .name = "batch_norm_grad_sums",  // dy, x, mean, rstd, weight, bias, rows -> sums
    .infer = sums_infer,
    .wants = {Layout::channels_last, Layout::channels_last},
    .cuts = [](const Site&) -> std::vector<Cut> {
      return {{{Share::rows, Share::rows}, {Share::sum}, part_of}};
    },
    .adds = &kGradSumsAdd,
    .cpu = grad_sums_cpu,
    .cuda = kCuda ? cuda::batch_norm_grad_sums : nullptr,
};

constexpr OpDef kParametersGrad{
    .name = "batch_norm_parameters_grad",  // sums, mean, rstd -> dweight, dbias
    .infer = [](const Site& site) -> std::vector<Spec> {
      return {site.inputs[1], site.inputs[1]};
    },
    .precise = true,
    .cpu = parameters_cpu,
    .cuda = kCuda ? cuda::batch_norm_parameters_grad : nullptr,
};

constexpr OpDef kGrad{
    .name = "batch_norm_grad",  // dy, x, mean, rstd, weight, bias, sums, rows -> dx
    .infer = same_as_first,
    .wants = {Layout::channels_last, Layout::channels_last},
    .overwrites = 0,
    .cuts = [](const Site&) -> std::vector<Cut> {
      return {{{Share::rows, Share::rows}, {Share::rows}, part_of}};
    },
    .cpu = grad_cpu,
    .cuda = kCuda ? cuda::batch_norm_grad : nullptr,
};

}  // namespace

std::vector<Tensor> backward(const Backward& b) {
  Graph& graph = *b.dy[0].graph;
  const Tensor dy = b.dy[0], x = b.inputs[0], mean = b.inputs[1], rstd = b.inputs[2],
               weight = b.inputs[3], bias = b.inputs[4], rows = b.inputs[5];
  const Tensor sums =
      graph.add(kGradSums, {dy, x, mean, rstd, weight, bias, rows}, b.attributes)[0];
  const auto parameters = graph.add(kParametersGrad, {sums, mean, rstd});
  const Tensor dx =
      graph.add(kGrad, {dy, x, mean, rstd, weight, bias, sums, rows}, b.attributes)[0];
  // dx has what goes by way of mean and rstd: they get no gradient of their own.
  return {dx, {}, {}, parameters[0], parameters[1], {}};
}

}  // namespace poolgrad::normalization

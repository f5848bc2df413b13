// conv2d: images channels-last, weights dense [o, i, kh, kw] as they are exported. Kernels are in
// conv2d_winograd.cpp, conv2d_onednn.cpp and conv2d_unfolded.cpp.
#include "engine/ops/conv2d.h"

#include "engine/cuda/kernels.h"
#include "engine/ops/check.h"
#include "engine/ops/relu.h"
#include "engine/ops/settings.h"

namespace poolgrad {
namespace {

using namespace convolution;

// ---- infer

void check_settings(const Conv2d& s) {
  check_setting("conv2d", "stride", s.stride, 1);
  check_setting("conv2d", "padding", s.padding, 0);
  check_setting("conv2d", "dilation", s.dilation, 1);
  if (s.groups < 1) throw ArgumentError(text("conv2d: groups ", s.groups, " must be at least 1"));
}

void check_channels(const Conv2d& s, const Shape& x, const Shape& weight) {
  if (x[1] != weight[1] * s.groups) {
    throw ShapeError(text("conv2d: x ", x, " has ", x[1], " channels but weight ", weight,
                          " takes ", weight[1] * s.groups, " with groups ", s.groups,
                          "; make them equal"));
  }
  if (weight[0] % s.groups != 0) {
    throw ShapeError(text("conv2d: weight ", weight, " gives ", weight[0],
                          " channels, which groups ", s.groups, " do not divide; use a multiple"));
  }
}

std::vector<Spec> conv2d_infer(const Site& site) {
  const auto s = site.attributes.as<Conv2d>();
  check_settings(s);
  check_image("conv2d", "x", site.inputs[0]);
  const Shape &x = site.inputs[0].shape, &weight = site.inputs[1].shape;
  if (weight.rank() != 4) {
    throw ShapeError(text("conv2d: weight ", weight, " has ", weight.rank(),
                          " axes; it must be [out, in / groups, height, width]"));
  }
  check_f32("conv2d", "weight", site.inputs[1]);
  check_channels(s, x, weight);
  if (site.inputs.size() == 3 && site.inputs[2] != Spec{{weight[0]}}) {
    throw ShapeError(text("conv2d: bias ", site.inputs[2].shape, " of ", site.inputs[2].dtype,
                          " does not fit weight ", weight, "; make it [", weight[0],
                          "] of float32"));
  }
  Shape y{x[0], weight[0], 0, 0};
  for (const int axis : {2, 3}) {
    const auto i = static_cast<std::size_t>(axis - 2);
    const std::int64_t span = s.dilation[i] * (weight[axis] - 1) + 1;
    y[axis] = windows_along("conv2d", axis, x, span, s.stride[i], s.padding[i]);
  }
  return {{y, DType::f32, site.inputs[0].layout}};
}

std::string words(const Problem& p) {
  const auto pair = [](const std::array<std::int32_t, 2>& a) { return text(a[0], " x ", a[1]); };
  const Conv2d& s = p.settings;
  return text("x ", p.x.shape, ", weight ", p.weight.shape, ", stride ", pair(s.stride),
              ", padding ", pair(s.padding), ", dilation ", pair(s.dilation), ", groups ", s.groups,
              p.bias ? ", bias" : "", s.relu ? ", relu" : "");
}

/// The rule: tiles where counts of operations favour them, else oneDNN, else products.
Candidates in_order(const Site& site, const Problem& p,
                    std::optional<Kernel> (*winograd)(const Problem&),
                    std::optional<Kernel> (*onednn)(const Problem&),
                    Kernel (*unfolded)(const Problem&)) {
  Candidates all{words(p), {}};
  if (site.winograd) all.best_first.push_back({"winograd", [=] { return winograd(p); }});
  all.best_first.push_back({"onednn", [=] { return onednn(p); }});
  all.best_first.push_back({"unfolded", [=] { return std::optional(unfolded(p)); }});
  return all;
}

Candidates conv2d_candidates(const Site& site) {
  const Problem p{site.attributes.as<Conv2d>(), site.inputs[0], site.inputs[1], site.outputs[0],
                  site.inputs.size() == 3};
  return in_order(site, p, forward_winograd, forward_onednn, forward_unfolded);
}

// ---- gradients

using Gradient = settings::Conv2dGradient;

Candidates conv2d_data_candidates(const Site& site) {
  const Problem p{site.attributes.as<Gradient>().conv, site.outputs[0], site.inputs[1],
                  site.inputs[0]};
  return in_order(site, p, data_winograd, data_onednn, data_unfolded);
}

/// Each weight meets each position of an output image once. y or its gradient, the weight or its.
std::int64_t conv2d_flops(const Spec& y, const Spec& weight) {
  return 2 * weight.shape.count() * (y.shape.count() / y.shape[1]);
}

constexpr OpDef kConv2dData{
    .name = "conv2d_data",  // dy, weight -> dx
    .infer = [](const Site& site) -> std::vector<Spec> {
      const auto g = site.attributes.as<Gradient>();
      const Spec &dy = site.inputs[0], &weight = site.inputs[1];
      const std::int64_t channels = weight.shape[1] * g.conv.groups;
      return {{{dy.shape[0], channels, g.height, g.width}, DType::f32, dy.layout}};
    },
    .wants = {Layout::channels_last, Layout::row_major},
    .flops = [](const Site& s) { return conv2d_flops(s.inputs[0], s.inputs[1]); },
    .cuts = row_by_row<1>,
    .cpu = by_rule<conv2d_data_candidates>,
    .cuda = kCuda ? cuda::conv2d_data : nullptr,
    .candidates = conv2d_data_candidates,
};

template <bool kBias>
std::vector<Spec> conv2d_weights_infer(const Site& site) {
  const auto g = site.attributes.as<Gradient>();
  const std::int64_t in = site.inputs[0].shape[1] / g.conv.groups;
  const std::int64_t out = site.inputs[1].shape[1];
  std::vector<Spec> made{{{out, in, g.height, g.width}}};
  if (kBias) made.push_back({{out}});
  return made;
}

template <bool kBias, bool kAdd>
Candidates conv2d_weights_candidates(const Site& site) {
  constexpr std::size_t kX = kAdd ? (kBias ? 2 : 1) : 0;
  const Problem p{site.attributes.as<Gradient>().conv, site.inputs[kX], site.outputs[0],
                  site.inputs[kX + 1], kBias};
  return in_order(
      site, p, [](const Problem& problem) { return weights_winograd(problem, kAdd); },
      [](const Problem& problem) { return weights_onednn(problem, kAdd); },
      [](const Problem& problem) { return weights_unfolded(problem, kAdd); });
}

constexpr auto kRowMajor = Layout::row_major, kChannelsLast = Layout::channels_last;

template <bool kBias>  // dweight, perhaps dbias, x, dy -> dweight, perhaps dbias
constexpr OpDef kConv2dWeightsAdd{
    .name = kBias ? "conv2d_weights_bias_add" : "conv2d_weights_add",
    .infer = [](const Site& site) -> std::vector<Spec> {
      return {site.inputs.begin(), site.inputs.begin() + (kBias ? 2 : 1)};
    },
    .wants = {kRowMajor, kBias ? kRowMajor : kChannelsLast, kChannelsLast, kChannelsLast},
    .updates = kBias ? 2 : 1,
    .flops = [](const Site& s) { return conv2d_flops(s.inputs.back(), s.outputs[0]); },
    .cpu = by_rule<conv2d_weights_candidates<kBias, true>>,
    .candidates = conv2d_weights_candidates<kBias, true>,
};

template <bool kBias>  // x, dy -> dweight, perhaps dbias
constexpr OpDef kConv2dWeights{
    .name = kBias ? "conv2d_weights_bias" : "conv2d_weights",
    .infer = conv2d_weights_infer<kBias>,
    .wants = {Layout::channels_last, Layout::channels_last},
    .flops = [](const Site& s) { return conv2d_flops(s.inputs[1], s.outputs[0]); },
    .cuts = [](const Site&) -> std::vector<Cut> {
      return {{{Share::rows, Share::rows}, std::vector(kBias ? 2U : 1U, Share::sum)}};
    },
    .adds = &kConv2dWeightsAdd<kBias>,
    .cpu = by_rule<conv2d_weights_candidates<kBias, false>>,
    .cuda = kCuda ? cuda::conv2d_weights : nullptr,
    .candidates = conv2d_weights_candidates<kBias, false>,
};

std::vector<Tensor> conv2d_backward(const Backward& b) {
  auto s = b.attributes.as<Conv2d>();
  const Tensor dy = s.relu ? relu_grad(b.outputs[0], b.dy[0]) : b.dy[0];
  s.relu = false;
  Graph& graph = *dy.graph;
  const Shape x = b.inputs[0].shape(), weight = b.inputs[1].shape();
  const OpDef& weights = b.inputs.size() == 3 ? kConv2dWeights<true> : kConv2dWeights<false>;
  const auto parameters = graph.add(weights, {b.inputs[0], dy}, Gradient{s, weight[2], weight[3]});
  std::vector<Tensor> grads = graph.add(kConv2dData, {dy, b.inputs[1]}, Gradient{s, x[2], x[3]});
  grads.insert(grads.end(), parameters.begin(), parameters.end());
  return grads;
}

constexpr OpDef kConv2d{
    .name = "conv2d",  // x, weight, perhaps bias
    .infer = conv2d_infer,
    .backward = conv2d_backward,
    .wants = {Layout::channels_last, Layout::row_major},
    .absorb = [](const Node& self, const Node& next) -> std::optional<Attributes> {
      auto settings = self.attributes.as<Conv2d>();
      if (next.op != &kRelu || settings.relu) return {};
      settings.relu = true;
      return settings;
    },
    .flops = [](const Site& s) { return conv2d_flops(s.outputs[0], s.inputs[1]); },
    .cuts = row_by_row<1>,
    .cpu = by_rule<conv2d_candidates>,
    .cuda = kCuda ? cuda::conv2d : nullptr,
    .candidates = conv2d_candidates,
};

}  // namespace

Tensor conv2d(Tensor x, Tensor weight, Tensor bias, const Conv2d& settings) {
  std::vector<Tensor> inputs{x, weight};
  if (bias) inputs.push_back(bias);
  return x.graph->add(kConv2d, inputs, settings)[0];
}

}  // namespace poolgrad

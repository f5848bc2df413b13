// conv2d by oneDNN: plain channels-last images; the order that a primitive wants of its weights is
// made anew in workspace at each run, so that exports may write the weights.
#include "engine/backend/loops.h"
#include "engine/backend/onednn.h"
#include "engine/ops/conv2d.h"
#include "memory/alignment.h"

#ifdef POOLGRAD_ONEDNN
namespace poolgrad::convolution {
namespace {

using dnnl::algorithm, dnnl::prop_kind;
using memory::aligned;
using Dims = dnnl::memory::dims;

/// Grouped weights have the group as an axis of its own.
dnnl::memory::desc weight_desc(const Problem& p) {
  if (p.groups() == 1) return onednn::desc(p.weight);
  const Shape& w = p.weight.shape;
  return onednn::desc({{p.groups(), p.out_channels(), w[1], w[2], w[3]}});
}

/// What all three primitives are made of.
struct Descs {
  dnnl::memory::desc x, weight, any_weight, bias, y;
  Dims strides, dilates, padding;

  explicit Descs(const Problem& p)
      : x(onednn::desc(p.x)),
        weight(weight_desc(p)),
        any_weight(onednn::any_order(weight)),
        y(onednn::desc(p.y)) {
    const Conv2d& s = p.settings;
    if (p.bias) bias = onednn::desc({{p.y.shape[1]}});
    strides = {s.stride[0], s.stride[1]};
    dilates = {s.dilation[0] - 1, s.dilation[1] - 1};
    padding = {s.padding[0], s.padding[1]};
  }

  [[nodiscard]] dnnl::convolution_forward::primitive_desc forward(bool relu) const {
    return {{prop_kind::forward_training, algorithm::convolution_direct, x, any_weight, bias, y,
             strides, dilates, padding, padding},
            onednn::attributes({.relu = relu}),
            onednn::cpu()};
  }
  /// What gradients are asked for with: any implementation, the reference one too.
  [[nodiscard]] dnnl::convolution_forward::primitive_desc hint() const { return forward(false); }
};

/// Beside what onednn::refuse() does: kernels of 1 by 1 windows gather the pixels that a stride
/// leaves in whole vectors of channels, and without AVX-512 write beyond their scratchpad where the
/// last vector is not full (oneDNN 2.6).
void refuse(const Problem& p, const dnnl::primitive_desc_base& made) {
  onednn::refuse(made);
  const std::string_view implementation = made.impl_info_str();
  const bool strided = p.settings.stride[0] > 1 || p.settings.stride[1] > 1;
  if (strided && p.x.shape[1] % 8 != 0 && implementation.starts_with("jit_1x1") &&
      implementation.find("avx512") == std::string_view::npos)
    throw dnnl::error(dnnl_unimplemented, "writes beyond its scratchpad");
}

Kernel forward(const Problem& p) {
  const Descs d(p);
  const auto made = d.forward(p.settings.relu);
  refuse(p, made);
  const auto order = made.weights_desc();
  const onednn::Primitive pack = onednn::reorder("conv2d", d.weight, order);
  std::vector<onednn::Primitive::Operand> operands{
      {DNNL_ARG_SRC, d.x}, {DNNL_ARG_WEIGHTS, order}, {DNNL_ARG_DST, d.y}};
  if (p.bias) operands.push_back({DNNL_ARG_BIAS, d.bias});
  const onednn::Primitive conv("conv2d", dnnl::convolution_forward(made), made, operands);
  const std::size_t packed = aligned(order.get_size());  // then scratch
  return {[pack, conv, packed, bias = p.bias](const Args& k) {
            std::byte *weights = k.workspace(), *scratch = k.workspace(packed);
            pack.run({k.inputs[1], weights, scratch});
            if (bias)
              conv.run({k.inputs[0], weights, k.outputs[0], k.inputs[2], scratch});
            else
              conv.run({k.inputs[0], weights, k.outputs[0], scratch});
          },
          packed + std::max(conv.scratch_bytes(), pack.scratch_bytes())};
}

Kernel data(const Problem& p) {
  const Descs d(p);
  const dnnl::convolution_backward_data::primitive_desc made(
      {algorithm::convolution_direct, d.x, d.any_weight, d.y, d.strides, d.dilates, d.padding,
       d.padding},
      onednn::attributes(), onednn::cpu(), d.hint());
  refuse(p, made);
  const auto order = made.weights_desc();
  const onednn::Primitive pack = onednn::reorder("conv2d_data", d.weight, order);
  const onednn::Primitive conv(
      "conv2d_data", dnnl::convolution_backward_data(made), made,
      {{DNNL_ARG_DIFF_DST, d.y}, {DNNL_ARG_WEIGHTS, order}, {DNNL_ARG_DIFF_SRC, d.x}});
  const std::size_t packed = aligned(order.get_size());  // then scratch
  return {[pack, conv, packed](const Args& k) {
            std::byte *weights = k.workspace(), *scratch = k.workspace(packed);
            pack.run({k.inputs[1], weights, scratch});
            conv.run({k.inputs[0], weights, k.outputs[0], scratch});
          },
          packed + std::max(conv.scratch_bytes(), pack.scratch_bytes())};
}

/// The gradient is made in workspace, in the order that the primitive wants, and moved or added to
/// where it belongs.
Kernel weights(const Problem& p, bool add) {
  const Descs d(p);
  const dnnl::convolution_backward_weights::primitive_desc made(
      {algorithm::convolution_direct, d.x, d.any_weight, d.bias, d.y, d.strides, d.dilates,
       d.padding, d.padding},
      onednn::attributes(), onednn::cpu(), d.hint());
  refuse(p, made);
  const auto order = made.diff_weights_desc();
  const onednn::Primitive unpack = onednn::reorder("conv2d_weights", order, d.weight, add);
  std::vector<onednn::Primitive::Operand> operands{
      {DNNL_ARG_SRC, d.x}, {DNNL_ARG_DIFF_DST, d.y}, {DNNL_ARG_DIFF_WEIGHTS, order}};
  if (p.bias) operands.push_back({DNNL_ARG_DIFF_BIAS, d.bias});
  const onednn::Primitive conv("conv2d_weights", dnnl::convolution_backward_weights(made), made,
                               operands);
  const std::int64_t channels = p.y.shape[1];
  const std::size_t bias_at = aligned(order.get_size());
  const std::size_t scratch_at =
      bias_at + (p.bias && add ? aligned(static_cast<std::size_t>(channels) * sizeof(float)) : 0);
  const int x = !add ? 0 : p.bias ? 2 : 1;
  return {[=, bias = p.bias](const Args& k) {
            std::byte *packed = k.workspace(), *scratch = k.workspace(scratch_at);
            if (bias) {
              float* sums = add ? reinterpret_cast<float*>(k.workspace(bias_at)) : k.out<float>(1);
              conv.run({k.inputs[x], k.inputs[x + 1], packed, sums, scratch});
              if (add) loops::add(k.out<float>(1), sums, k.out<float>(1), channels);
            } else {
              conv.run({k.inputs[x], k.inputs[x + 1], packed, scratch});
            }
            unpack.run({packed, k.outputs[0], scratch});
          },
          scratch_at + std::max(conv.scratch_bytes(), unpack.scratch_bytes())};
}

}  // namespace

std::optional<Kernel> forward_onednn(const Problem& problem) {
  return onednn::prepare("conv2d", [&] { return forward(problem); });
}

std::optional<Kernel> data_onednn(const Problem& problem) {
  return onednn::prepare("conv2d_data", [&] { return data(problem); });
}

std::optional<Kernel> weights_onednn(const Problem& problem, bool add) {
  return onednn::prepare("conv2d_weights", [&] { return weights(problem, add); });
}

}  // namespace poolgrad::convolution
#else
namespace poolgrad::convolution {

std::optional<Kernel> forward_onednn(const Problem&) { return {}; }
std::optional<Kernel> data_onednn(const Problem&) { return {}; }
std::optional<Kernel> weights_onednn(const Problem&, bool) { return {}; }

}  // namespace poolgrad::convolution
#endif

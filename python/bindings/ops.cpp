// poolgrad.ops: one line per op, under its C++ name.
#include "engine/ops.h"

#include "python/bindings/handle.h"

namespace poolgrad::python {
namespace {

using Pair = std::array<std::int32_t, 2>;
using Size = std::variant<std::int32_t, Pair>;  // one number for both, or (height, width)

Pair pair_of(const Size& size) {
  if (const auto* both = std::get_if<std::int32_t>(&size)) return {*both, *both};
  return std::get<Pair>(size);
}

Tensor conv2d_of(Tensor x, Tensor weight, std::optional<Tensor> bias, const Size& stride,
                 const Size& padding, const Size& dilation, std::int32_t groups) {
  return conv2d(x, weight, bias.value_or(Tensor{}),
                {pair_of(stride), pair_of(padding), pair_of(dilation), groups});
}

template <Tensor (*kPool)(Tensor, const Pool2d&)>
Tensor pool_of(Tensor x, const Size& size, const std::optional<Size>& stride, const Size& padding) {
  return kPool(x, {pair_of(size), pair_of(stride.value_or(size)), pair_of(padding)});
}

Tensor reshape_to(Tensor x, nb::handle shape) { return reshape(x, shape_of(shape)); }

Reduction reduction_of(std::string_view name) {
  if (name == "mean") return Reduction::mean;
  if (name == "sum") return Reduction::sum;
  throw ArgumentError(
      text("softmax_cross_entropy: reduction '", name, "' is unknown; 'mean' or 'sum'"));
}

}  // namespace

void bind_ops(nb::module_& module) {
  nb::module_ ops = module.def_submodule("ops", "One builder per op: it appends nodes to a graph.");
  const auto def = [&ops](const char* name, auto builder, const auto&... about) {
    ops.def(name, builder, about...);
  };
  const auto none = nb::none();
  def("add", &add, "left"_a, "right"_a, "left + right, equal shapes.");
  def("relu", &relu, "x"_a);
  def("sum_rows", &sum_rows, "x"_a, "[n, k] -> [k], the sum of all rows.");
  def("reshape", reshape_to, "x"_a, "shape"_a,
      nb::sig("def reshape(x: poolgrad._poolgrad.Handle, shape: int | "
              "collections.abc.Sequence[int]) -> "
              "poolgrad._poolgrad.Handle"),
      "The same elements in row-major order.");
  for (const char* name : {"concat", "cat"}) {
    def(name, &concat, "tensors"_a, "dim"_a = 0,
        "Tensors that follow each other along an axis, as torch's.");
  }
  def("flatten", &flatten, "x"_a, "[n, a, b, ...] -> [n, a*b*...].");
  def(
      "matmul",
      [](Tensor left, Tensor right, std::optional<Tensor> bias, bool transpose) {
        return matmul(left, right, bias.value_or(Tensor{}), transpose);
      },
      "left"_a, "right"_a, "bias"_a = none, "transpose"_a = false,
      "left [m, k] times right [k, n] (or [n, k] with transpose) plus bias [n] -> [m, n].");
  def(
      "linear",
      [](Tensor x, Tensor weight, std::optional<Tensor> bias) {
        return linear(x, weight, bias.value_or(Tensor{}));
      },
      "x"_a, "weight"_a, "bias"_a = none,
      "x [n, in] times weight [out, in] transposed plus bias [out] -> [n, out].");
  def("conv2d", conv2d_of, "x"_a, "weight"_a, "bias"_a = none, "stride"_a = 1, "padding"_a = 0,
      "dilation"_a = 1, "groups"_a = 1,
      "x [n, c, h, w], weight [o, c / groups, kh, kw], bias [o] -> [n, o, oh, ow], as torch's.");
  def("max_pool2d", pool_of<max_pool2d>, "x"_a, "kernel_size"_a, "stride"_a = none, "padding"_a = 0,
      "[n, c, h, w] -> [n, c, oh, ow]; stride is kernel_size where not given.");
  def("avg_pool2d", pool_of<avg_pool2d>, "x"_a, "kernel_size"_a, "stride"_a = none, "padding"_a = 0,
      "As max_pool2d, with means; padding counts as zeros.");
  def(
      "batch_norm",
      [](Tensor x, Tensor weight, Tensor bias, double eps) {
        return batch_norm(x, weight, bias, {}, {.epsilon = eps});
      },
      "x"_a, "weight"_a, "bias"_a, "eps"_a = 1e-5,
      "x [n, c, h, w], weight [c], bias [c], by mean and variance of the rows that count.");
  def(
      "batch_norm_fixed",
      [](Tensor x, Tensor weight, Tensor bias, Tensor mean, Tensor variance, double eps) {
        return batch_norm_fixed(x, weight, bias, {mean, variance, {}}, {.epsilon = eps});
      },
      "x"_a, "weight"_a, "bias"_a, "mean"_a, "variance"_a, "eps"_a = 1e-5,
      "The same by a mean [c] and a variance [c] that are given.");
  def("dropout", &dropout, "x"_a, "p"_a = 0.5, "seed"_a = 0,
      "x / (1 - p), or 0 with probability p, always as in training. What is dropped follows from "
      "seed, place and step.");
  def(
      "upsample_nearest2d",
      [](Tensor x, const Size& factor) { return upsample_nearest2d(x, pair_of(factor)); }, "x"_a,
      "scale_factor"_a = 2, "[n, c, h, w] -> [n, c, h * factor, w * factor], by repeating values.");
  def("global_avg_pool2d", &global_avg_pool2d, "x"_a, "[n, c, h, w] -> [n, c, 1, 1].");
  def(
      "softmax_cross_entropy",
      [](Tensor logits, Tensor labels, std::string_view reduction) {
        return softmax_cross_entropy(logits, labels, reduction_of(reduction));
      },
      "logits"_a, "labels"_a, "reduction"_a = "mean",
      "logits [n, k], labels [n] int64 -> a scalar, over the rows that count in a batch.");
  def("count_correct", &count_correct, "logits"_a, "labels"_a,
      "How many rows have their largest logit at the label -> a scalar, int64.");
}

}  // namespace poolgrad::python

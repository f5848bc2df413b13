// dropout: y = x / (1 − p), or 0 with probability p. No mask is stored: whether an element is kept
// follows from seed, node, step and its place in the whole batch, so parts, the backward pass and a
// node that is computed again agree. Images are channels-last: a place must be one whatever the
// passes do.
#include <algorithm>

#include "engine/backend/loops.h"
#include "engine/cuda/kernels.h"
#include "engine/ops.h"
#include "engine/ops/check.h"
#include "engine/ops/expressions.h"
#include "engine/ops/settings.h"
#include "engine/random.h"

namespace poolgrad {
namespace {

using settings::Dropout;

// ---- kernel

POOLGRAD_CLONES
void keep(const std::uint32_t* numbers, const settings::DropoutRule& rule, const float* x, float* y,
          std::int64_t count) {
  const settings::DropoutRule r = rule;
  for (std::int64_t i = 0; i < count; ++i)
    y[i] = expressions::dropped(numbers[i], r.drop, r.scale, x[i]);
}

Kernel dropout_cpu(const Site& site) {
  const auto s = site.attributes.as<Dropout>();
  const Shape& shape = site.inputs[0].shape;
  const std::int64_t count = shape.count();
  const std::int64_t begin = shape.rank() == 0 ? 0 : s.first * (count / shape[0]);
  return {[=, rule = settings::DropoutRule(s.p)](const Args& a) {
    const std::uint64_t stream = expressions::dropout_stream(s.node, *a.in<std::int64_t>(1));
    std::array<std::uint32_t, kDrawn> numbers;
    for (std::int64_t at = begin; at < begin + count;) {
      const std::int64_t block = at / kDrawn, skip = at % kDrawn;
      const std::int64_t here = std::min(kDrawn - skip, begin + count - at);
      draw_block(s.seed, stream, static_cast<std::uint64_t>(block), numbers);
      keep(numbers.data() + skip, rule, a.in<float>(0) + (at - begin),
           a.out<float>() + (at - begin), here);
      at += here;
    }
  }};
}

// ---- definitions

std::vector<Spec> dropout_infer(const Site& site) {
  check_f32("dropout", "x", site.inputs[0]);
  const double p = site.attributes.as<Dropout>().p;
  if (!(p >= 0.0 && p <= 1.0))
    throw ArgumentError(text("dropout: p is ", p, "; a probability is from 0 to 1"));
  return {site.inputs[0]};
}

std::vector<Cut> by_rows(const Site&) {
  return {{{Share::rows}, {Share::rows}, [](const Attributes& attributes, Rows rows) -> Attributes {
             auto part = attributes.as<Dropout>();
             part.first += rows.begin;
             return part;
           }}};
}

constexpr OpDef kDropoutGrad{
    .name = "dropout_grad",  // dy, step -> dx
    .infer = dropout_infer,
    .wants = {Layout::channels_last},
    .overwrites = 0,
    .cuts = by_rows,
    .cpu = dropout_cpu,  // the gradient is the function itself
    .cuda = kCuda ? cuda::dropout : nullptr,
};

constexpr OpDef kDropout{
    .name = "dropout",  // x, step -> y
    .infer = dropout_infer,
    .backward = [](const Backward& b) -> std::vector<Tensor> {
      return {b.dy[0].graph->add(kDropoutGrad, {b.dy[0], b.inputs[1]}, b.attributes)[0], {}};
    },
    .wants = {Layout::channels_last},
    .overwrites = 0,
    .recompute = true,
    .cuts = by_rows,
    .cpu = dropout_cpu,
    .cuda = kCuda ? cuda::dropout : nullptr,
};

}  // namespace

Tensor dropout(Tensor x, double p, std::uint64_t seed) {
  Graph& graph = *x.graph;
  const auto before =
      std::ranges::count_if(graph.nodes, [](const Node& node) { return node.op == &kDropout; });
  const Dropout settings{p, seed, static_cast<std::int64_t>(before)};
  return graph.add(kDropout, {x, graph.step()}, settings)[0];
}

}  // namespace poolgrad

// conv2d by Winograd's tiles, where they beat sums in plain order: 3 by 3 windows with stride 1.
#include <utility>

#include "engine/backend/loops.h"
#include "engine/backend/winograd.h"
#include "engine/backend/x86_level.h"
#include "engine/ops/conv2d.h"

namespace poolgrad::convolution {
namespace {

/// Of the forward pass; nothing where the windows are others or it would not pay.
std::optional<winograd::Problem> tiles(const Problem& p) {
  const Conv2d& s = p.settings;
  const Shape &x = p.x.shape, &weight = p.weight.shape;
  if (weight[2] != 3 || weight[3] != 3 || s.stride != std::array{1, 1} ||
      s.dilation != std::array{1, 1} || s.groups != 1 || s.padding[0] > 2 || s.padding[1] > 2)
    return {};
  const winograd::Problem problem{.images = x[0],
                                  .height = x[2],
                                  .width = x[3],
                                  .in = x[1],
                                  .out = p.y.shape[1],
                                  .padding_h = s.padding[0],
                                  .padding_w = s.padding[1],
                                  .relu = s.relu};
  if (!winograd::pays(problem)) return {};
  return problem;
}

}  // namespace

std::optional<Kernel> forward_winograd(const Problem& problem) {
  const auto p = tiles(problem);
  if (!p) return {};
  return Kernel{
      [p = *p, call = winograd::calls(x86_level()).forward, bias = problem.bias](const Args& a) {
        call(p, a.in<float>(0), a.in<float>(1), bias ? a.in<float>(2) : nullptr, a.out<float>(),
             a.workspace());
      },
      winograd::workspace_bytes(*p)};
}

std::optional<Kernel> data_winograd(const Problem& problem) {
  auto p = tiles(problem);
  if (!p) return {};
  // A convolution of dy with the weights turned around.
  p->height = p->out_height(), p->width = p->out_width();
  std::swap(p->in, p->out);
  p->padding_h = 2 - p->padding_h, p->padding_w = 2 - p->padding_w;
  p->flipped = true, p->relu = false;
  return Kernel{[p = *p, call = winograd::calls(x86_level()).forward](const Args& a) {
                  call(p, a.in<float>(0), a.in<float>(1), nullptr, a.out<float>(), a.workspace());
                },
                winograd::workspace_bytes(*p)};
}

std::optional<Kernel> weights_winograd(const Problem& problem, bool add) {
  const auto p = tiles(problem);
  if (!p) return {};
  const std::int64_t places = p->images * p->out_height() * p->out_width();
  const int x = !add ? 0 : problem.bias ? 2 : 1;
  return Kernel{
      [=, p = *p, call = winograd::calls(x86_level()).weights, bias = problem.bias](const Args& a) {
        const float* dy = a.in<float>(x + 1);
        call(p, a.in<float>(x), dy, add, a.out<float>(), a.workspace());
        if (bias) loops::sum_rows(dy, places, p.out, p.out, add, a.out<float>(1));
      },
      winograd::workspace_bytes(*p)};
}

}  // namespace poolgrad::convolution

// softmax_cross_entropy: the loss of the first `rows` rows, their mean or sum, and the
// probabilities for backward. Rows beyond `rows` count for nothing: probabilities and gradients
// there are 0.
#include <algorithm>
#include <cmath>

#include "engine/backend/loops.h"
#include "engine/cuda/kernels.h"
#include "engine/ops.h"
#include "engine/ops/check.h"
#include "engine/ops/expressions.h"
#include "engine/ops/settings.h"

namespace poolgrad {
namespace {

using Settings = settings::SoftmaxCrossEntropy;

/// How many of the `n` rows here count.
std::int64_t used_of(const Settings& s, std::int64_t n, std::int64_t rows) {
  return std::clamp<std::int64_t>(rows - s.first, 0, n);
}

float scale_of(const Settings& s, std::int64_t rows) {
  return s.reduction == Reduction::mean ? 1.0F / static_cast<float>(rows) : 1.0F;
}

// ---- kernels

POOLGRAD_CLONES
void exponentials(float* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = expressions::exponential(x[i]);
}

/// p = softmax(x); answers the sum of -log p[label].
double softmax(const float* x, const std::int64_t* labels, std::int64_t rows, std::int64_t classes,
               float* p) {
  double loss = 0.0;
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* from = x + row * classes;
    float* to = p + row * classes;
    float top = from[0];
    for (std::int64_t i = 1; i < classes; ++i) top = from[i] > top ? from[i] : top;
    for (std::int64_t i = 0; i < classes; ++i) to[i] = from[i] - top;
    loss -= to[labels[row]];
  }
  exponentials(p, rows * classes);
  for (std::int64_t row = 0; row < rows; ++row, p += classes) {
    float sum = 0.0F;
    for (std::int64_t i = 0; i < classes; ++i) sum += p[i];
    loss += std::log(sum);
    const float scale = 1.0F / sum;
    for (std::int64_t i = 0; i < classes; ++i) p[i] *= scale;
  }
  return loss;
}

Kernel softmax_cross_entropy_cpu(const Site& site) {
  const int skip = site.inputs.size() == 4 ? 1 : 0;  // the twin takes the loss first
  const Shape& logits = site.outputs[1].shape;
  return {[skip, n = logits[0], classes = logits[1],
           s = site.attributes.as<Settings>()](const Args& a) {
    const std::int64_t* labels = a.in<std::int64_t>(skip + 1);
    const std::int64_t rows = *a.in<std::int32_t>(skip + 2), used = used_of(s, n, rows);
    for (std::int64_t row = 0; row < used; ++row)
      check_label("softmax_cross_entropy", s.first + row, labels[row], classes);
    float *loss = a.out<float>(0), *p = a.out<float>(1);
    const double sum = softmax(a.in<float>(skip), labels, used, classes, p);
    std::fill_n(p + used * classes, (n - used) * classes, 0.0F);
    *loss = (skip == 1 ? *loss : 0.0F) + static_cast<float>(sum * scale_of(s, rows));
  }};
}

POOLGRAD_CLONES
void scale_into(const float* p, float scale, float* dx, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) dx[i] = p[i] * scale;
}

/// dlogits = (p - 1 at the label) · dy, where dlogits may be p.
Kernel softmax_cross_entropy_grad_cpu(const Site& site) {
  const Shape& shape = site.inputs[0].shape;
  return {[n = shape[0], classes = shape[1], s = site.attributes.as<Settings>()](const Args& a) {
    const std::int64_t* labels = a.in<std::int64_t>(1);
    const std::int64_t rows = *a.in<std::int32_t>(2), used = used_of(s, n, rows);
    const float scale = *a.in<float>(3) * scale_of(s, rows);
    const float* p = a.in<float>(0);
    float* dx = a.out<float>();
    for (std::int64_t row = 0; row < used; ++row, p += classes, dx += classes) {
      const float at_label = (p[labels[row]] - 1.0F) * scale;
      scale_into(p, scale, dx, classes);
      dx[labels[row]] = at_label;
    }
    std::fill_n(dx, (n - used) * classes, 0.0F);
  }};
}

// ---- definitions

Attributes part(const Attributes& attributes, Rows rows) {
  auto settings = attributes.as<Settings>();
  settings.first += rows.begin;
  return settings;
}

constexpr OpDef kSoftmaxCrossEntropyGrad{
    .name = "softmax_cross_entropy_grad",  // probabilities, labels, rows, dy -> dlogits
    .infer = same_as_first,
    .overwrites = 0,
    .precise = true,
    .cuts = [](const Site&) -> std::vector<Cut> {
      return {{{Share::rows, Share::rows}, {Share::rows}, part}};
    },
    .cpu = softmax_cross_entropy_grad_cpu,
    .cuda = kCuda ? cuda::softmax_cross_entropy_grad : nullptr,
};

constexpr OpDef kSoftmaxCrossEntropyAdd{
    .name = "softmax_cross_entropy_add",  // loss, logits, labels, rows -> loss, probabilities
    .infer = [](const Site& site) -> std::vector<Spec> {
      return {{}, site.inputs[1]};
    },
    .updates = 1,
    .cpu = softmax_cross_entropy_cpu,
};

constexpr OpDef kSoftmaxCrossEntropy{
    .name = "softmax_cross_entropy",  // logits, labels, rows -> loss, probabilities
    .infer = [](const Site& site) -> std::vector<Spec> {
      check_classes("softmax_cross_entropy", site.inputs[0], site.inputs[1]);
      return {{}, site.inputs[0]};
    },
    .backward = [](const Backward& b) -> std::vector<Tensor> {
      Graph& graph = *b.dy[0].graph;
      const Tensor dx =
          graph.add(kSoftmaxCrossEntropyGrad, {b.outputs[1], b.inputs[1], b.inputs[2], b.dy[0]},
                    b.attributes)[0];
      return {cast(dx, b.inputs[0].spec().dtype), {}, {}};
    },
    .precise = true,
    .cuts = [](const Site&) -> std::vector<Cut> {
      return {{{Share::rows, Share::rows}, {Share::sum, Share::rows}, part}};
    },
    .adds = &kSoftmaxCrossEntropyAdd,
    .cpu = softmax_cross_entropy_cpu,
    .cuda = kCuda ? cuda::softmax_cross_entropy : nullptr,
};

}  // namespace

Tensor softmax_cross_entropy(Tensor logits, Tensor labels, Reduction reduction) {
  const Settings settings{.reduction = reduction};
  return logits.graph->add(kSoftmaxCrossEntropy, {logits, labels, logits.graph->rows()},
                           settings)[0];
}

}  // namespace poolgrad

// softmax_cross_entropy: the loss of the first `rows` rows, their mean or sum, and the
// probabilities for backward. Rows beyond `rows` count for nothing: probabilities and gradients
// there are 0.
#include <algorithm>
#include <bit>
#include <cmath>

#include "engine/backend/loops.h"
#include "engine/ops.h"
#include "engine/ops/check.h"

namespace poolgrad {
namespace {

struct Settings {
  std::int64_t first = 0;  // row of the batch that this part begins with
  Reduction reduction = Reduction::mean;
  bool operator==(const Settings&) const = default;

  /// How many of the `n` rows here count.
  [[nodiscard]] std::int64_t used(std::int64_t n, std::int64_t rows) const {
    return std::clamp<std::int64_t>(rows - first, 0, n);
  }
  [[nodiscard]] float scale(std::int64_t rows) const {
    return reduction == Reduction::mean ? 1.0F / static_cast<float>(rows) : 1.0F;
  }
};

// ---- kernels

/// e to the x for x <= 0, within 2 units of the last place: x = n·ln 2 + r, and a series for e to
/// the r. NaN stays NaN; below -87 answers 0. The compiler makes vectors of it.
[[gnu::always_inline]] inline float exponential(float x) {
  constexpr float kRound = 12582912.0F;  // 1.5 · 2²³: adding it leaves the integer in the last bits
  constexpr float kLn2High = 0.693359375F, kLn2Low = -2.12194440e-4F;
  const float shifted = x * 1.44269504F + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float series = 1.0F / 5040.0F;
  series = series * r + 1.0F / 720.0F;
  series = series * r + 1.0F / 120.0F;
  series = series * r + 1.0F / 24.0F;
  series = series * r + 1.0F / 6.0F;
  series = series * r + 0.5F;
  series = series * r + 1.0F;
  series = series * r + 1.0F;
  const std::uint32_t exponent = std::bit_cast<std::uint32_t>(shifted) << 23;
  const float result = std::bit_cast<float>(exponent + std::bit_cast<std::uint32_t>(series));
  return x < -87.0F ? 0.0F : series != series ? series : result;
}

POOLGRAD_CLONES
void exponentials(float* x, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) x[i] = exponential(x[i]);
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
    const std::int64_t rows = *a.in<std::int32_t>(skip + 2), used = s.used(n, rows);
    for (std::int64_t row = 0; row < used; ++row)
      check_label("softmax_cross_entropy", s.first + row, labels[row], classes);
    float *loss = a.out<float>(0), *p = a.out<float>(1);
    const double sum = softmax(a.in<float>(skip), labels, used, classes, p);
    std::fill_n(p + used * classes, (n - used) * classes, 0.0F);
    *loss = (skip == 1 ? *loss : 0.0F) + static_cast<float>(sum * s.scale(rows));
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
    const std::int64_t rows = *a.in<std::int32_t>(2), used = s.used(n, rows);
    const float scale = *a.in<float>(3) * s.scale(rows);
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
    .cuts = [](const Site&) -> std::vector<Cut> {
      return {{{Share::rows, Share::rows}, {Share::rows}, part}};
    },
    .cpu = softmax_cross_entropy_grad_cpu,
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
      return {graph.add(kSoftmaxCrossEntropyGrad, {b.outputs[1], b.inputs[1], b.inputs[2], b.dy[0]},
                        b.attributes)[0],
              {},
              {}};
    },
    .cuts = [](const Site&) -> std::vector<Cut> {
      return {{{Share::rows, Share::rows}, {Share::sum, Share::rows}, part}};
    },
    .adds = &kSoftmaxCrossEntropyAdd,
    .cpu = softmax_cross_entropy_cpu,
};

}  // namespace

Tensor softmax_cross_entropy(Tensor logits, Tensor labels, Reduction reduction) {
  const Settings settings{.reduction = reduction};
  return logits.graph->add(kSoftmaxCrossEntropy, {logits, labels, logits.graph->rows()},
                           settings)[0];
}

}  // namespace poolgrad

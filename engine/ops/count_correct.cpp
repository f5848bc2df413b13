// count_correct: in how many rows the largest logit stands at the label. No gradient.
#include "engine/cuda/kernels.h"
#include "engine/ops.h"
#include "engine/ops/check.h"
#include "engine/ops/expressions.h"
#include "engine/ops/settings.h"

namespace poolgrad {
namespace {

using Part = settings::CountCorrect;

Kernel count_correct_cpu(const Site& site) {
  const int skip = site.inputs.size() == 4 ? 1 : 0;  // the twin takes the count first
  const Shape& logits = site.inputs[static_cast<std::size_t>(skip)].shape;
  return {[skip, n = logits[0], classes = logits[1],
           first = site.attributes.as<Part>().first](const Args& a) {
    const float* x = a.in<float>(skip);
    const std::int64_t* labels = a.in<std::int64_t>(skip + 1);
    const std::int64_t rows = std::min(n, *a.in<std::int32_t>(skip + 2) - first);
    std::int64_t count = skip == 1 ? *a.out<std::int64_t>() : 0;
    for (std::int64_t i = 0; i < rows; ++i) {
      check_label("count_correct", first + i, labels[i], classes);
      count += expressions::correct(x + i * classes, classes, labels[i]) ? 1 : 0;
    }
    *a.out<std::int64_t>() = count;
  }};
}

constexpr OpDef kCountCorrectAdd{
    .name = "count_correct_add",  // count, logits, labels, rows -> count
    .infer = same_as_first,
    .updates = 1,
    .cpu = count_correct_cpu,
};

constexpr OpDef kCountCorrect{
    .name = "count_correct",  // logits, labels, rows -> count
    .infer = [](const Site& site) -> std::vector<Spec> {
      check_classes("count_correct", site.inputs[0], site.inputs[1]);
      return {{{}, DType::i64}};
    },
    .cuts = [](const Site&) -> std::vector<Cut> {
      return {{{Share::rows, Share::rows},
               {Share::sum},
               [](const Attributes& attributes, Rows rows) -> Attributes {
                 return Part{attributes.as<Part>().first + rows.begin};
               }}};
    },
    .adds = &kCountCorrectAdd,
    .cpu = count_correct_cpu,
    .cuda = kCuda ? cuda::count_correct : nullptr,
};

}  // namespace

Tensor count_correct(Tensor logits, Tensor labels) {
  return logits.graph->add(kCountCorrect, {logits, labels, logits.graph->rows()}, Part{})[0];
}

}  // namespace poolgrad

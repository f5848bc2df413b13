// sum_rows: [n, k] -> [k], as the gradient of a bias is; and its twin, which adds to its output.
#include "engine/backend/loops.h"
#include "engine/cuda/kernels.h"
#include "engine/ops.h"
#include "engine/ops/check.h"

namespace poolgrad {
namespace {

Kernel sum_rows_cpu(const Site& site) {
  const bool add = site.inputs.size() == 2;  // sum, x
  const Shape& x = site.inputs.back().shape;
  const std::int64_t stride = site.inputs.back().strides()[0];
  return {[add, rows = x[0], columns = x[1], stride](const Args& a) {
    loops::sum_rows(a.in<float>(add ? 1 : 0), rows, columns, stride, add, a.out<float>());
  }};
}

std::vector<Spec> sum_rows_infer(const Site& site) {
  const Spec& x = site.inputs[0];
  if (x.shape.rank() != 2) {
    throw ShapeError(text("sum_rows: x ", x.shape, " has ", x.shape.rank(),
                          " axes; reshape it to [rows, columns]"));
  }
  check_f32("sum_rows", "x", x);
  return {{{x.shape[1]}}};
}

constexpr OpDef kSumRowsAdd{
    .name = "sum_rows_add",  // sum, x -> sum
    .infer = same_as_first,
    .updates = 1,
    .cpu = sum_rows_cpu,
};

constexpr OpDef kSumRows{
    .name = "sum_rows",
    .infer = sum_rows_infer,
    .precise = true,
    .cuts = [](const Site&) -> std::vector<Cut> {
      return {{{Share::rows}, {Share::sum}}, {{Share::columns}, {Share::rows}}};
    },
    .adds = &kSumRowsAdd,
    .cpu = sum_rows_cpu,
    .cuda = kCuda ? cuda::sum_rows : nullptr,
};

}  // namespace

Tensor sum_rows(Tensor x) { return x.graph->add(kSumRows, {x})[0]; }

}  // namespace poolgrad

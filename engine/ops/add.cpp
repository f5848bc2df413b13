// add: left + right, elementwise, equal shapes. What differentiate() sums gradients with.
#include "engine/backend/loops.h"
#include "engine/cuda/kernels.h"
#include "engine/ops.h"

namespace poolgrad {
namespace {

bool adds_up(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f64 || dtype == DType::i64;
}

std::vector<Spec> add_infer(const Site& site) {
  const Spec &left = site.inputs[0], &right = site.inputs[1];
  if (left.shape != right.shape) {
    throw ShapeError(text("add: left ", left.shape, " and right ", right.shape,
                          " differ; make their shapes equal"));
  }
  if (left.dtype != right.dtype || !adds_up(left.dtype)) {
    throw ShapeError(text("add: left is ", left.dtype, " and right is ", right.dtype,
                          "; kernels add equal dtypes, float32, float64 or int64"));
  }
  return {left};
}

/// Of counts and statistics, which are few.
template <typename T>
Kernel add_few(std::int64_t count) {
  return {[count](const Args& a) {
    for (std::int64_t i = 0; i < count; ++i) a.out<T>()[i] = a.in<T>(0)[i] + a.in<T>(1)[i];
  }};
}

Kernel add_cpu(const Site& site) {
  const std::int64_t count = site.outputs[0].shape.count();
  if (site.inputs[0].dtype == DType::i64) return add_few<std::int64_t>(count);
  if (site.inputs[0].dtype == DType::f64) return add_few<double>(count);
  return {[count](const Args& a) {
    loops::add(a.in<float>(0), a.in<float>(1), a.out<float>(), count);
  }};
}

}  // namespace

constexpr OpDef kAdd{
    .name = "add",
    .infer = add_infer,
    .backward = [](const Backward& b) -> std::vector<Tensor> {
      return {b.dy[0], b.dy[0]};
    },
    .overwrites = 0,
    .cuts = row_by_row<2>,
    .cpu = add_cpu,
    .cuda = kCuda ? cuda::add : nullptr,
};

Tensor add(Tensor left, Tensor right) { return left.graph->add(kAdd, {left, right})[0]; }

}  // namespace poolgrad

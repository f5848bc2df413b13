// A convolution's operations: itself, and in the forward pass bias and ReLU behind it.
#include "engine/cuda/convolution.h"

#include <array>

#include "engine/error.h"

namespace poolgrad::cuda {
namespace {

cudnnDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return CUDNN_DATA_FLOAT;
    case DType::f16:
      return CUDNN_DATA_HALF;
    case DType::bf16:
      return CUDNN_DATA_BFLOAT16;
    default:
      throw DeviceError(text("cuDNN's convolutions take no ", dtype, "; cast it to float32 first"));
  }
}

/// What lies between two operations has no bytes.
Descriptor tensor(std::int64_t number, const Spec& spec, std::int64_t alignment,
                  bool inner = false) {
  const Shape strides = spec.strides();
  Descriptor t(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  t.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, number);
  t.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type_of(spec.dtype));
  t.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, alignment);
  t.set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, spec.shape.extents());
  t.set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides.extents());
  t.set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, inner);
  t.finalize();
  return t;
}

Descriptor rule_of(const Conv2d& s) {
  const auto wide = [](const std::array<std::int32_t, 2>& a) {
    return std::array<std::int64_t, 2>{a[0], a[1]};
  };
  const auto stride = wide(s.stride), padding = wide(s.padding), dilation = wide(s.dilation);
  Descriptor rule(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  const auto set = [&](cudnnBackendAttributeName_t name, const std::array<std::int64_t, 2>& pair) {
    rule.set(name, CUDNN_TYPE_INT64, std::span<const std::int64_t>(pair));
  };
  rule.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  rule.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION);
  rule.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, std::int64_t{2});
  set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, padding);
  set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, padding);
  set(CUDNN_ATTR_CONVOLUTION_DILATIONS, dilation);
  set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, stride);
  rule.finalize();
  return rule;
}

/// How a pass calls its operands.
struct Names {
  cudnnBackendDescriptorType_t operation;
  cudnnBackendAttributeName_t rule, x, weight, y, alpha, beta;
};

Names names_of(Pass pass) {
  switch (pass) {
    case Pass::forward:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    case Pass::data:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    default:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
  }
}

/// y = x + bias, or max(x, 0).
Descriptor pointwise(cudnnPointwiseMode_t mode, const Descriptor& x, const Descriptor* bias,
                     const Descriptor& y) {
  Descriptor rule(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  rule.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, mode);
  rule.set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  rule.finalize();
  Descriptor operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, rule);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
  if (bias != nullptr) operation.set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, *bias);
  operation.set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
  operation.finalize();
  return operation;
}

}  // namespace

std::optional<EnginePlan> plan(const Target& target, const Convolution& c, const Wishes& wishes,
                               std::int64_t alignment) {
  const bool relu = c.settings.relu;
  const auto image = [&](const Shape& shape) {
    return Spec{shape, c.dtype, Layout::channels_last};
  };
  std::int64_t between = kBias;
  const auto result = [&](bool last) {
    if (last) return tensor(kY, image(c.y), alignment);
    return tensor(++between, {c.y, DType::f32, Layout::channels_last}, alignment, /*inner=*/true);
  };
  Descriptor y = result(!c.bias && !relu);
  const Names names = names_of(c.pass);
  Descriptor convolution(names.operation);
  convolution.set(names.rule, rule_of(c.settings));
  convolution.set(names.x, tensor(kX, image(c.x), alignment));
  convolution.set(names.weight, tensor(kWeight, {c.weight, c.dtype, c.weight_layout}, alignment));
  convolution.set(names.y, y);
  convolution.set(names.alpha, CUDNN_TYPE_FLOAT, 1.0F);
  convolution.set(names.beta, CUDNN_TYPE_FLOAT, 0.0F);
  convolution.finalize();
  std::vector<Descriptor> operations;
  operations.push_back(std::move(convolution));
  if (c.bias) {
    const Descriptor bias = tensor(kBias, image({1, c.y[1], 1, 1}), alignment);
    Descriptor sum = result(!relu);
    operations.push_back(pointwise(CUDNN_POINTWISE_ADD, y, &bias, sum));
    y = std::move(sum);
  }
  if (relu) operations.push_back(pointwise(CUDNN_POINTWISE_RELU_FWD, y, nullptr, result(true)));
  return best_plan(target, operations, wishes);
}

}  // namespace poolgrad::cuda

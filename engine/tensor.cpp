// Shapes, strides, initializers and the table's rows.
#include "engine/tensor.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "engine/error.h"

namespace poolgrad {

std::string to_string(DType dtype) {
  constexpr std::array<const char*, 8> kNames{"float32", "float64", "float16", "bfloat16",
                                              "int64",   "int32",   "uint8",   "bool"};
  return kNames[static_cast<std::size_t>(dtype)];
}

Shape::Shape(std::span<const std::int64_t> extents) {
  if (extents.size() > kMaxRank)
    throw ShapeError(text("shape: ", extents.size(), " axes, but ", kMaxRank, " are the most"));
  for (const std::int64_t extent : extents) extents_[static_cast<std::size_t>(rank_++)] = extent;
}

std::string to_string(const Shape& shape) {
  std::string result = "[";
  for (int axis = 0; axis < shape.rank(); ++axis) {
    result += (axis == 0 ? "" : ", ") + std::to_string(shape[axis]);
  }
  return result + "]";
}

Shape Spec::strides() const {
  constexpr std::array<int, 4> kChannelsLast{1, 3, 2, 0};  // innermost first
  Shape strides = shape;
  std::int64_t stride = 1;
  for (int i = 0; i < shape.rank(); ++i) {
    const int axis = layout == Layout::channels_last ? kChannelsLast[static_cast<std::size_t>(i)]
                                                     : shape.rank() - 1 - i;
    strides[axis] = stride;
    stride *= shape[axis];
  }
  if (pitch != 0) strides[0] = pitch;
  return strides;
}

Stretches::Stretches(std::initializer_list<const Spec*> specs)
    : length_((*specs.begin())->shape.count()) {
  assert(specs.size() <= strides_.size());
  if (std::ranges::all_of(specs, [](const Spec* spec) { return spec->pitch == 0; })) return;
  const Shape& shape = (*specs.begin())->shape;
  rows_ = shape[0], length_ = shape[1];
  std::ranges::transform(specs, strides_.begin(),
                         [](const Spec* spec) { return spec->strides()[0]; });
}

void check_extents(const Spec& spec, std::string_view what) {
  auto bytes = static_cast<std::int64_t>(size_of(spec.dtype));
  for (const std::int64_t extent : spec.shape.extents()) {
    if (extent < 1) throw ShapeError(text(what, ": shape ", spec.shape, " has an extent below 1"));
    if (bytes > std::numeric_limits<std::int64_t>::max() / extent)
      throw ShapeError(
          text(what, ": shape ", spec.shape, " has more bytes than 63 bits can count"));
    bytes *= extent;
  }
}

Init Init::kaiming_uniform(std::int64_t fan_in, std::uint64_t seed) {
  return {.kind = Kind::uniform,
          .value = static_cast<float>(1.0 / std::sqrt(static_cast<double>(fan_in))),
          .seed = seed};
}

int TensorTable::add(const Spec& row) {
  spec.push_back(row);
  name.emplace_back();
  column.emplace_back();
  init.emplace_back();
  layer.emplace_back();
  backward.push_back(0);
  unbatched.push_back(0);
  return size() - 1;
}

}  // namespace poolgrad

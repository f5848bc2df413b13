// Copies between strided arrays, one number at a time or as one block.
#include "engine/array.h"

#include <charconv>
#include <cstring>

#include "engine/error.h"
#include "engine/half.h"
#include "engine/op.h"

namespace poolgrad {
namespace {

/// Calls f(place in from, place in to) for each element, in elements.
template <typename F>
void each(const ArrayView& from, const ArrayView& to, int axis, std::int64_t f, std::int64_t t,
          const F& visit) {
  if (axis == from.shape.rank()) return visit(f, t);
  for (std::int64_t i = 0; i < from.shape[axis]; ++i)
    each(from, to, axis + 1, f + i * from.strides[axis], t + i * to.strides[axis], visit);
}

/// Arrays of others may stand on any byte.
template <typename T>
T load(const void* data, std::int64_t element) {
  T value;
  std::memcpy(&value,
              static_cast<const char*>(data) + element * static_cast<std::int64_t>(sizeof(T)),
              sizeof(T));
  return value;
}

/// Halves go by way of floats, except that they are rounded once.
template <typename To, typename From>
To converted(From value) {
  constexpr bool kToHalf = std::is_same_v<To, f16> || std::is_same_v<To, bf16>;
  if constexpr (kToHalf && std::is_integral_v<From>) {
    return To(static_cast<double>(value));
  } else if constexpr (kToHalf && !std::is_same_v<From, double>) {
    return To(static_cast<float>(value));
  } else if constexpr (std::is_class_v<From>) {
    return static_cast<To>(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

template <typename From, typename To>
void convert(const ArrayView& from, const ArrayView& to) {
  auto* target = static_cast<To*>(to.data);
  if (from.row_major() && to.row_major()) {
    const std::int64_t count = from.shape.count();
    for (std::int64_t i = 0; i < count; ++i) target[i] = converted<To>(load<From>(from.data, i));
    return;
  }
  each(from, to, 0, 0, 0, [&](std::int64_t f, std::int64_t t) {
    target[t] = converted<To>(load<From>(from.data, f));
  });
}

template <typename From>
bool convert_from(const ArrayView& from, const ArrayView& to) {
  switch (to.dtype) {
    case DType::f32:
      return convert<From, float>(from, to), true;
    case DType::f64:
      return convert<From, double>(from, to), true;
    case DType::f16:
      return convert<From, f16>(from, to), true;
    case DType::bf16:
      return convert<From, bf16>(from, to), true;
    case DType::i64:
      return convert<From, std::int64_t>(from, to), true;
    case DType::i32:
      return convert<From, std::int32_t>(from, to), true;
    case DType::u8:
      return convert<From, std::uint8_t>(from, to), true;
    default:
      return false;
  }
}

bool convert_any(const ArrayView& from, const ArrayView& to) {
  if (from.dtype == to.dtype) {  // any dtype moves as bits of its size
    switch (size_of(from.dtype)) {
      case 8:
        return convert<std::uint64_t, std::uint64_t>(from, to), true;
      case 4:
        return convert<std::uint32_t, std::uint32_t>(from, to), true;
      case 2:
        return convert<std::uint16_t, std::uint16_t>(from, to), true;
      default:
        return convert<std::uint8_t, std::uint8_t>(from, to), true;
    }
  }
  switch (from.dtype) {
    case DType::f32:
      return convert_from<float>(from, to);
    case DType::f64:
      return convert_from<double>(from, to);
    case DType::f16:
      return convert_from<f16>(from, to);
    case DType::bf16:
      return convert_from<bf16>(from, to);
    case DType::i64:
      return convert_from<std::int64_t>(from, to);
    case DType::i32:
      return convert_from<std::int32_t>(from, to);
    case DType::u8:
    case DType::boolean:
      return convert_from<std::uint8_t>(from, to);
    default:
      return false;
  }
}

}  // namespace

bool ArrayView::row_major() const {
  std::int64_t stride = 1;
  for (int axis = shape.rank(); axis-- > 0;) {
    if (shape[axis] != 1 && strides[axis] != stride) return false;
    stride *= shape[axis];
  }
  return true;
}

std::optional<Device> Device::named(std::string_view name) {
  if (name == "cpu") return Device{};
  if (name == "cuda") return cuda();
  constexpr std::string_view kPrefix = "cuda:";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const std::string_view number = name.substr(kPrefix.size());
  int index = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), index);
  if (error != std::errc() || end != number.data() + number.size() || index < 0)
    return std::nullopt;
  return cuda(index);
}

std::string to_string(memory::Place place) {
  return place.space == memory::Space::cuda ? text("cuda:", place.index) : "cpu";
}

void copy(const ArrayView& from, const ArrayView& to) {
  if (from.shape != to.shape)
    throw ShapeError(text("copy: from ", from.shape, " to ", to.shape, "; shapes must be equal"));
  if (from.shape.count() == 0 || from.data == to.data) return;
  if (from.dtype == to.dtype && from.row_major() && to.row_major()) {
    std::memcpy(to.data, from.data, from.bytes());
  } else if (!convert_any(from, to)) {
    throw ArgumentError(text("copy: ", from.dtype, " does not convert to ", to.dtype,
                             "; convert the values first"));
  }
}

}  // namespace poolgrad

// ArrayView: bytes that someone owns. The only type that crosses our border.
#pragma once

#include <memory>
#include <span>

#include "engine/tensor.h"
#include "memory/resource.h"

namespace poolgrad {

struct ArrayView {
  void* data = nullptr;
  Shape shape;
  Shape strides;  // in elements, one per axis
  DType dtype = DType::f32;
  memory::Place place{};
  std::shared_ptr<const void> owner{};  // keeps the bytes alive; empty when the caller does
  bool read_only = false;
  /// On a device: what is on this stream may write the bytes yet, so whoever uses them elsewhere
  /// waits for it first. The default: nothing is under way. The owner keeps the stream.
  memory::Stream stream{};

  /// Row-major host data that outlives the view.
  template <typename T>
  static ArrayView of(std::span<T> values, const Shape& shape, DType dtype) {
    assert(values.size() == static_cast<std::size_t>(shape.count()));
    assert(sizeof(T) == size_of(dtype));
    return {const_cast<std::remove_const_t<T>*>(values.data()),
            shape,
            Spec{shape}.strides(),
            dtype,
            {},
            {},
            std::is_const_v<T>};
  }
  template <typename T>
  [[nodiscard]] std::span<T> as() const {
    assert(sizeof(T) == size_of(dtype));
    return {static_cast<T*>(data), static_cast<std::size_t>(shape.count())};
  }
  [[nodiscard]] std::size_t bytes() const {
    return static_cast<std::size_t>(shape.count()) * size_of(dtype);
  }
  /// Dense in row-major order; strides of axes with one element do not matter.
  [[nodiscard]] bool row_major() const;
};

/// An array under a name, as in a file of weights.
struct NamedArray {
  std::string name;
  ArrayView array;
};

[[nodiscard]] std::string to_string(memory::Place place);  // "cpu", "cuda:0"

/// Copies element by element, converting numbers, between arrays of one shape; strides may be any,
/// also 0 and negative. In host memory; transfer.h goes across. Throws ShapeError when shapes
/// differ, ArgumentError for what is no number: boolean comes from itself alone.
void copy(const ArrayView& from, const ArrayView& to);

}  // namespace poolgrad

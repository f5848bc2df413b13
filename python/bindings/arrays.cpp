// Python objects as ArrayViews: through a buffer where there is one, else through DLPack.
#include <array>
#include <cstring>

#include "engine/error.h"
#include "engine/transfer.h"
#include "interop/dlpack.h"
#include "memory/arena.h"
#include "python/bindings/bindings.h"
#include "python/bindings/capsule.h"
#include "python/bindings/cuda_array.h"

namespace poolgrad::python {
namespace {

/// Releasing a buffer runs Python. Views may die on a thread of ours, or after the interpreter.
void release(Py_buffer* buffer) {
  if (Py_IsInitialized() != 0) {
    const nb::gil_scoped_acquire gil;
    const KeepError keep;
    PyBuffer_Release(buffer);
  }
  delete buffer;
}

std::optional<DType> dtype_of_format(const char* format, Py_ssize_t bytes) {
  if (format == nullptr) return DType::u8;
  if (*format == '@' || *format == '=' || *format == '<') ++format;
  if (std::strlen(format) != 1) return std::nullopt;
  switch (*format) {
    case 'f':
      return DType::f32;
    case 'd':
      return DType::f64;
    case 'e':
      return DType::f16;
    case 'i':
    case 'l':
    case 'q':
      return bytes == 4 ? DType::i32 : DType::i64;
    case 'B':
      return DType::u8;
    case '?':
      return DType::boolean;
    default:
      return std::nullopt;
  }
}

ArrayView array_of_buffer(nb::handle object, std::string_view name) {
  auto buffer = std::make_unique<Py_buffer>();
  if (PyObject_GetBuffer(object.ptr(), buffer.get(), PyBUF_RECORDS_RO) != 0) {
    throw nb::python_error();
  }
  const std::shared_ptr<Py_buffer> owner(buffer.release(), release);
  const std::optional<DType> dtype = dtype_of_format(owner->format, owner->itemsize);
  if (!dtype) {
    throw ExportError(text(name, ": elements of format '", owner->format,
                           "' are unknown here; convert to float32, or to int64 for labels"));
  }
  if (owner->ndim > Shape::kMaxRank) {
    throw ExportError(text(name, ": ", owner->ndim, " axes, where at most ", Shape::kMaxRank,
                           " are possible; reshape it"));
  }
  const auto rank = static_cast<std::size_t>(owner->ndim);
  std::array<std::int64_t, Shape::kMaxRank> shape{}, strides{};
  for (std::size_t axis = 0; axis < rank; ++axis) {
    shape[axis] = owner->shape[axis];
    strides[axis] = owner->strides[axis] / owner->itemsize;
    if (owner->strides[axis] % owner->itemsize != 0) {
      throw ExportError(text(name, ": a stride of ", owner->strides[axis],
                             " bytes is no multiple of the element's ", owner->itemsize,
                             "; pass a copy"));
    }
  }
  return {owner->buf,
          Shape(std::span<const std::int64_t>(shape.data(), rank)),
          Shape(std::span<const std::int64_t>(strides.data(), rank)),
          *dtype,
          {},
          owner,
          owner->readonly != 0};
}

}  // namespace

ArrayView array_of(nb::handle object, std::string_view name, const Reader& reader) {
  if (nb::isinstance<ArrayView>(object)) return nb::cast<ArrayView&>(object);
  if (PyObject_CheckBuffer(object.ptr()) != 0) return array_of_buffer(object, name);
  if (nb::hasattr(object, "__dlpack__")) return array_of_producer(object, reader);
  if (nb::hasattr(object, "__cuda_array_interface__"))
    return array_of_interface(object, name, reader);
  throw nb::type_error(text(name, ": '", nb::type_name(object.type()).c_str(),
                            "' has neither a buffer nor __dlpack__; pass a NumPy array or a tensor")
                           .c_str());
}

ArrayView new_array(const Shape& shape, DType dtype) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape.extents()) {
    if (extent < 0) throw ShapeError(text("empty: shape ", shape, " has a negative extent"));
    if (__builtin_mul_overflow(count, std::max<std::int64_t>(extent, 1), &count) ||
        count > (std::int64_t{1} << 48)) {
      throw MemoryError(text("empty: shape ", shape, " has more elements than fit into memory"));
    }
  }
  const Spec spec{shape, dtype};
  const auto arena =
      std::make_shared<memory::Arena>(std::make_shared<memory::HostResource>(), spec.bytes());
  arena->fill(0, std::byte{0});
  return {arena->at(0), shape, spec.strides(), dtype, arena->place(), arena};
}

ArrayView clone(const ArrayView& array) {
  ArrayView result = new_array(array.shape, array.dtype);
  copy(on_host(array), result);
  return result;
}

DType dtype_of(nb::handle name) {
  const bool is_type = PyType_Check(name.ptr()) != 0;  // numpy.float32
  std::string wanted =
      nb::str(is_type ? nb::object(name.attr("__name__")) : nb::borrow(name)).c_str();
  if (const auto dot = wanted.rfind('.'); dot != std::string::npos) wanted.erase(0, dot + 1);
  std::string known;
  for (const DType dtype : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i64, DType::i32,
                            DType::u8, DType::boolean}) {
    if (to_string(dtype) == wanted) return dtype;
    known += (known.empty() ? "" : ", ") + to_string(dtype);
  }
  throw ArgumentError(text("dtype: '", wanted, "' is unknown; one of ", known));
}

Shape shape_of(nb::handle extents) {
  std::vector<std::int64_t> values(1);
  if (nb::try_cast(extents, values[0]) || nb::try_cast(extents, values)) return Shape(values);
  throw nb::type_error(text("shape: ", nb::repr(extents).c_str(),
                            " is neither a whole number nor a sequence of them")
                           .c_str());
}

nb::tuple tuple_of(const Shape& shape) {
  nb::list extents;
  for (const std::int64_t extent : shape.extents()) extents.append(extent);
  return nb::tuple(extents);
}

}  // namespace poolgrad::python

// poolgrad.Tensor: an ArrayView with everything by which other libraries open it: DLPack, Python's
// buffer protocol, __array__. It has no arithmetic.

#include "engine/error.h"
#include "interop/dlpack.h"
#include "python/bindings/bindings.h"
#include "python/bindings/capsule.h"

namespace poolgrad::python {
namespace {

// ---- DLPack

nb::object to_capsule(const ArrayView& array, nb::handle stream, nb::handle max_version,
                      nb::handle dl_device, nb::handle copy) {
  if (!stream.is_none() && nb::cast<std::int64_t>(stream) != -1) {  // -1: torch's "do not wait"
    throw ExportError(text("__dlpack__: stream must be None for a tensor on the CPU, not ",
                           nb::repr(stream).c_str()));
  }
  const interop::DevicePair device = interop::dlpack_device(array.place);
  if (!dl_device.is_none()) {
    const nb::object type = dl_device[0], index = dl_device[1];
    const interop::DevicePair wanted{nb::cast<int>(nb::int_(type)), nb::cast<int>(nb::int_(index))};
    if (wanted != device) {
      throw ExportError(text("__dlpack__: the tensor lies on device (", device.type, ", ",
                             device.index, ") and is not moved to (", wanted.type, ", ",
                             wanted.index, "); ask without dl_device"));
    }
  }
  const bool versioned = !max_version.is_none() && nb::cast<int>(nb::object(max_version[0])) >= 1;
  const bool is_copy = !copy.is_none() && nb::cast<bool>(copy);
  return capsule_of(is_copy ? clone(array) : array, versioned, is_copy);
}

ArrayView from_dlpack(nb::handle object, nb::handle device, nb::handle copy) {
  nb::object wanted = nb::none();
  if (!device.is_none()) {
    const bool by_name = nb::isinstance<nb::str>(device);
    if (by_name ? nb::cast<std::string_view>(device) != "cpu"
                : !device.equal(nb::make_tuple(1, 0))) {
      throw ArgumentError(text("from_dlpack: device ", nb::repr(device).c_str(),
                               " is not the CPU; pass 'cpu', (1, 0) or None"));
    }
    wanted = nb::make_tuple(1, 0);
  }
  const bool must_copy = !copy.is_none() && nb::cast<bool>(copy);
  if (PyCapsule_CheckExact(object.ptr()) != 0) {
    const ArrayView array = array_of_capsule(object);
    return must_copy ? clone(array) : array;
  }
  if (!nb::hasattr(object, "__dlpack__")) {
    throw nb::type_error(text("from_dlpack: '", nb::type_name(object.type()).c_str(),
                              "' has no __dlpack__; pass an array or a tensor")
                             .c_str());
  }
  // A copy that is wanted is made here: once, on 64 bytes.
  const ArrayView array = array_of_producer(object, wanted, must_copy ? nb::none() : copy);
  return must_copy ? clone(array) : array;
}

// ---- the buffer protocol

const char* format_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f";
    case DType::f64:
      return "d";
    case DType::f16:
      return "e";
    case DType::i64:
      return sizeof(long) == 8 ? "l" : "q";
    case DType::i32:
      return "i";
    case DType::u8:
      return "B";
    case DType::boolean:
      return "?";
    case DType::bf16:
      break;
  }
  return nullptr;
}

bool column_major(const ArrayView& array) {
  std::int64_t stride = 1;
  for (int axis = 0; axis < array.shape.rank(); ++axis) {
    if (array.shape[axis] != 1 && array.strides[axis] != stride) return false;
    stride *= array.shape[axis];
  }
  return true;
}

/// Why the array has no buffer of the kind that `flags` ask for, or nullptr.
const char* no_buffer(const ArrayView& array, int flags) {
  const auto asks = [flags](int wish) { return (flags & wish) == wish; };
  if (format_of(array.dtype) == nullptr) {
    return "buffer: bfloat16 has no format there; use from_dlpack of torch or JAX";
  }
  if (asks(PyBUF_WRITABLE) && array.read_only) return "buffer: the tensor is read-only";
  const bool c = array.row_major(), f = column_major(array);
  if ((asks(PyBUF_C_CONTIGUOUS) && !c) || (asks(PyBUF_F_CONTIGUOUS) && !f) ||
      (asks(PyBUF_ANY_CONTIGUOUS) && !c && !f) || (!asks(PyBUF_STRIDES) && !c)) {
    return "buffer: the tensor is not contiguous in the order asked for";
  }
  return nullptr;
}

struct Extents {
  Py_ssize_t shape[Shape::kMaxRank], strides[Shape::kMaxRank];
};

int get_buffer(PyObject* self, Py_buffer* out, int flags) {
  const auto& array = *nb::inst_ptr<ArrayView>(self);
  out->obj = nullptr;
  if (const char* why = no_buffer(array, flags)) {
    PyErr_SetString(PyExc_BufferError, why);
    return -1;
  }
  auto* extents = new (std::nothrow) Extents;
  if (extents == nullptr) {
    PyErr_NoMemory();
    return -1;
  }
  const auto element_bytes = static_cast<Py_ssize_t>(size_of(array.dtype));
  for (int axis = 0; axis < array.shape.rank(); ++axis) {
    extents->shape[axis] = array.shape[axis];
    extents->strides[axis] = array.strides[axis] * element_bytes;
  }
  static char no_bytes = 0;
  out->buf = array.data != nullptr ? array.data : &no_bytes;
  out->len = static_cast<Py_ssize_t>(array.bytes());
  out->itemsize = element_bytes;
  out->readonly = array.read_only ? 1 : 0;
  out->ndim = (flags & PyBUF_ND) != 0 ? array.shape.rank() : 1;
  out->format = (flags & PyBUF_FORMAT) != 0 ? const_cast<char*>(format_of(array.dtype)) : nullptr;
  out->shape = (flags & PyBUF_ND) != 0 ? extents->shape : nullptr;
  out->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? extents->strides : nullptr;
  out->suboffsets = nullptr;
  out->internal = extents;
  out->obj = Py_NewRef(self);  // and with it the owner of the bytes
  return 0;
}

void release_buffer(PyObject*, Py_buffer* buffer) {
  delete static_cast<Extents*>(buffer->internal);
}

PyType_Slot kBufferSlots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
                              {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
                              {0, nullptr}};

// ---- NumPy, imported when somebody asks for it

nb::object to_numpy(nb::handle self, nb::handle dtype, nb::handle copy) {
  const nb::module_ numpy = nb::module_::import_("numpy");
  nb::object array = numpy.attr("asarray")(nb::steal(PyMemoryView_FromObject(self.ptr())));
  const bool copy_is_given = !copy.is_none(), must_copy = copy_is_given && nb::cast<bool>(copy);
  if (!dtype.is_none() && !array.attr("dtype").equal(numpy.attr("dtype")(dtype))) {
    if (copy_is_given && !must_copy) {
      throw nb::value_error("__array__: another dtype needs a copy; pass copy=None or True");
    }
    return array.attr("astype")(dtype);
  }
  return must_copy ? array.attr("copy")() : array;
}

// ---- the rest

/// The half-open range of addresses that the elements lie in.
std::pair<std::uintptr_t, std::uintptr_t> addresses(const ArrayView& array) {
  std::int64_t lowest = 0, highest = 0;
  for (int axis = 0; axis < array.shape.rank(); ++axis) {
    const std::int64_t span = (array.shape[axis] - 1) * array.strides[axis];
    (span < 0 ? lowest : highest) += span;
  }
  const auto bytes = static_cast<std::int64_t>(size_of(array.dtype));
  const auto data = reinterpret_cast<std::uintptr_t>(array.data);
  return {data + static_cast<std::uintptr_t>(lowest * bytes),
          data + static_cast<std::uintptr_t>((highest + 1) * bytes)};
}

bool shares_memory(nb::handle left, nb::handle right) {
  const ArrayView a = array_of(left, "shares_memory"), b = array_of(right, "shares_memory");
  if (a.shape.count() == 0 || b.shape.count() == 0) return false;
  const auto [a_begin, a_end] = addresses(a);
  const auto [b_begin, b_end] = addresses(b);
  return a_begin < b_end && b_begin < a_end;
}

void assign(const ArrayView& target, const ArrayView& values) {
  if (target.read_only) throw ArgumentError("assign: the target is read-only");
  copy(values, target);
}

nb::object item(nb::handle self) {
  const auto& array = nb::cast<const ArrayView&>(self);
  if (array.shape.count() != 1) {
    throw ShapeError(text("item: shape ", array.shape, " has not exactly one element"));
  }
  return to_numpy(self, nb::none(), nb::none()).attr("item")();
}

std::string describe(const ArrayView& array) {
  return text("poolgrad.Tensor(shape=", array.shape, ", dtype=", array.dtype,
              array.read_only ? ", read-only" : "", ")");
}

}  // namespace

void bind_interop(nb::module_& module) {
  nb::class_<ArrayView>(
      module, "Tensor", nb::type_slots(kBufferSlots), nb::is_weak_referenceable(),
      R"(Bytes in an arena, with a shape and a dtype: a weight, a gradient, an input slot.

Opened without copying by torch.from_dlpack(t), numpy.from_dlpack(t), numpy.asarray(t),
jax.dlpack.from_dlpack(t), memoryview(t) and whatever else speaks DLPack or the buffer
protocol. Whoever holds such a view keeps the whole arena, also when model and step are gone.)")
      .def("__dlpack__", to_capsule, nb::kw_only(), "stream"_a = nb::none(),
           "max_version"_a = nb::none(), "dl_device"_a = nb::none(), "copy"_a = nb::none(),
           nb::sig("def __dlpack__(self, *, stream: int | None = None, "
                   "max_version: tuple[int, int] | None = None, "
                   "dl_device: tuple[int, int] | None = None, "
                   "copy: bool | None = None) -> object"),
           "A DLPack capsule, versioned where max_version is at least (1, 0).")
      .def(
          "__dlpack_device__",
          [](const ArrayView& array) {
            const interop::DevicePair device = interop::dlpack_device(array.place);
            return nb::make_tuple(device.type, device.index);
          },
          nb::sig("def __dlpack_device__(self) -> tuple[int, int]"))
      .def("__array__", to_numpy, "dtype"_a = nb::none(), "copy"_a = nb::none(),
           nb::sig("def __array__(self, dtype: object = None, copy: bool | None = None) -> object"),
           "As a NumPy array on the same bytes, unless another dtype or a copy is asked for.")
      .def(
          "numpy", [](nb::handle self) { return to_numpy(self, nb::none(), nb::none()); },
          nb::sig("def numpy(self) -> object"), "A NumPy array on the same bytes.")
      .def("item", item, nb::sig("def item(self) -> float | int | bool"),
           "The value of a tensor with one element.")
      .def_prop_ro(
          "shape", [](const ArrayView& array) { return tuple_of(array.shape); },
          nb::sig("def shape(self) -> tuple[int, ...]"))
      .def_prop_ro(
          "strides", [](const ArrayView& array) { return tuple_of(array.strides); },
          nb::sig("def strides(self) -> tuple[int, ...]"), "In elements, as torch's.")
      .def_prop_ro(
          "dtype", [](const ArrayView& array) { return to_string(array.dtype); },
          "\"float32\", \"int64\", ...")
      .def(
          "data_ptr",
          [](const ArrayView& array) { return reinterpret_cast<std::uintptr_t>(array.data); },
          "The address of the first element.")
      .def_prop_ro("nbytes", &ArrayView::bytes)
      .def_ro("read_only", &ArrayView::read_only)
      .def("__repr__", describe);

  module.def("from_dlpack", from_dlpack, nb::arg().none(), nb::kw_only(), "device"_a = nb::none(),
             "copy"_a = nb::none(),
             nb::sig("def from_dlpack(x: object, /, *, device: object = None, "
                     "copy: bool | None = None) -> Tensor"),
             "A tensor on x's bytes; with copy=True on bytes of its own. BufferError where that "
             "cannot be.");
  module.def(
      "empty",
      [](nb::handle shape, nb::handle dtype) {
        return new_array(shape_of(shape), dtype_of(dtype));
      },
      "shape"_a, "dtype"_a = "float32",
      nb::sig("def empty(shape: int | collections.abc.Sequence[int], dtype: object = 'float32') -> "
              "Tensor"),
      "A tensor in an arena of its own, on a page, zeros at first.");
  module.def(
      "array", array_of, "x"_a.none(), "name"_a,
      "Anything with a buffer or __dlpack__ as a tensor on the same bytes; errors begin with "
      "the name.");
  module.def(
      "copied", [](nb::handle x, std::string_view name) { return clone(array_of(x, name)); },
      "x"_a.none(), "name"_a, "As array(), on bytes of its own.");
  module.def("assign", assign, "target"_a, "values"_a,
             "Copies values into a tensor of the same shape, converting numbers.");
  module.def("shares_memory", shares_memory, "a"_a.none(), "b"_a.none(),
             nb::sig("def shares_memory(a: object, b: object) -> bool"),
             "Whether the bytes of two arrays, of whatever libraries, overlap.");
}

}  // namespace poolgrad::python

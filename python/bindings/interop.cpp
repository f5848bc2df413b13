// poolgrad.Tensor: an ArrayView with everything by which other libraries open it: DLPack, Python's
// buffer protocol, __array__, __cuda_array_interface__. It has no arithmetic.
#include "engine/cuda/launcher.h"
#include "engine/error.h"
#include "engine/transfer.h"
#include "interop/handshake.h"
#include "python/bindings/bindings.h"
#include "python/bindings/capsule.h"
#include "python/bindings/cuda_array.h"

namespace poolgrad::python {
namespace {

// ---- DLPack

interop::DevicePair pair_of(nb::handle device) {
  const nb::object type = device[0], index = device[1];
  return {nb::cast<int>(nb::int_(type)), nb::cast<int>(nb::int_(index))};
}

std::optional<bool> flag_of(nb::handle flag) {
  if (flag.is_none()) return std::nullopt;
  return nb::cast<bool>(flag);
}

nb::object to_capsule(const ArrayView& array, nb::handle stream, nb::handle max_version,
                      nb::handle dl_device, nb::handle copy) {
  interop::Wishes wishes{.stream = stream_number(stream), .copy = flag_of(copy)};
  if (!dl_device.is_none()) wishes.device = pair_of(dl_device);
  const bool versioned = !max_version.is_none() && nb::cast<int>(nb::object(max_version[0])) >= 1;
  const interop::Fulfilled lent = interop::fulfil(array, wishes);
  return capsule_of(lent.array, versioned, lent.is_copy);
}

/// "cpu", "cuda:1", torch.device of that name, or DLPack's pair.
memory::Place place_of(nb::handle device) {
  if (nb::isinstance<nb::tuple>(device)) {
    for (const memory::Space space : {memory::Space::host, memory::Space::cuda}) {
      const memory::Place place{space, space == memory::Space::cuda ? pair_of(device).index : 0};
      if (interop::dlpack_device(place) == pair_of(device)) return place;
    }
  } else if (const auto named = Device::named(nb::str(device).c_str())) {
    const bool on_gpu = named->kind == Device::Kind::cuda;
    return {on_gpu ? memory::Space::cuda : memory::Space::host, named->index};
  }
  throw ArgumentError(text("device: ", nb::repr(device).c_str(),
                           " is unknown; one of 'cpu', 'cuda' and 'cuda:N', or DLPack's pair"));
}

/// At that place, with bytes of its own if so wanted.
ArrayView brought_to(memory::Place place, const ArrayView& array, std::optional<bool> copy) {
  const bool there = interop::dlpack_device(place) == interop::dlpack_device(array.place);
  if (there) return copy.value_or(false) ? duplicate(array) : array;
  if (!copy.value_or(true))
    throw ExportError(text("from_dlpack: the array lies on ", to_string(array.place),
                           " and copy=False forbids to bring it to ", to_string(place),
                           "; pass copy=None"));
  if (place.space != memory::Space::cuda) return on_host(array);
  return copied_to(cuda::stream(1, place.index), on_host(array));
}

ArrayView from_dlpack(nb::handle object, nb::handle device, nb::handle copy) {
  std::optional<memory::Place> place;
  if (!device.is_none()) place = place_of(device);
  const std::optional<bool> may_copy = flag_of(copy);
  if (PyCapsule_CheckExact(object.ptr()) != 0) {
    const ArrayView array = array_of_capsule(object);
    return brought_to(place.value_or(array.place), array, may_copy);
  }
  if (!nb::hasattr(object, "__dlpack__")) {
    throw nb::type_error(text("from_dlpack: '", nb::type_name(object.type()).c_str(),
                              "' has no __dlpack__; pass an array or a tensor")
                             .c_str());
  }
  // Copies that are wanted are made here: once, and aligned.
  const bool must_copy = may_copy.value_or(false);
  const ArrayView array =
      array_of_producer(object, {.anywhere = true}, must_copy ? nb::handle(Py_None) : copy);
  return brought_to(place.value_or(array.place), array, may_copy);
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
  if (array.place.space == memory::Space::cuda)
    return "buffer: the tensor lies on a GPU; take cpu() of it, or from_dlpack of torch or CuPy";
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
  const Reader anywhere{.anywhere = true};
  const ArrayView a = array_of(left, "shares_memory", anywhere),
                  b = array_of(right, "shares_memory", anywhere);
  if (a.shape.count() == 0 || b.shape.count() == 0) return false;
  const auto [a_begin, a_end] = addresses(a);
  const auto [b_begin, b_end] = addresses(b);
  return a_begin < b_end && b_begin < a_end;
}

void assign(const ArrayView& target, const ArrayView& values) {
  if (target.read_only) throw ArgumentError("assign: the target is read-only");
  copy_across(values, target);
}

nb::object item(nb::handle self) {
  const auto& array = nb::cast<const ArrayView&>(self);
  if (array.shape.count() != 1) {
    throw ShapeError(text("item: shape ", array.shape, " has not exactly one element"));
  }
  return to_numpy(nb::cast(on_host(array)), nb::none(), nb::none()).attr("item")();
}

std::string describe(const ArrayView& array) {
  const bool on_gpu = array.place.space == memory::Space::cuda;
  return text("poolgrad.Tensor(shape=", array.shape, ", dtype=", array.dtype,
              on_gpu ? ", device=" + to_string(array.place) : std::string(),
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
      .def(
          "__dlpack__", to_capsule, nb::kw_only(), "stream"_a = nb::none(),
          "max_version"_a = nb::none(), "dl_device"_a = nb::none(), "copy"_a = nb::none(),
          nb::sig("def __dlpack__(self, *, stream: int | None = None, "
                  "max_version: tuple[int, int] | None = None, "
                  "dl_device: tuple[int, int] | None = None, "
                  "copy: bool | None = None) -> object"),
          "A DLPack capsule, versioned where max_version is at least (1, 0). Of a tensor on a GPU: "
          "the consumer's\nstream waits for the steps so far (None and 1: the legacy default "
          "stream, 2: the thread's, else its\naddress; -1: nobody waits). dl_device=(1, 0) is a "
          "copy on the CPU.")
      .def(
          "__dlpack_device__",
          [](const ArrayView& array) {
            const interop::DevicePair device = interop::dlpack_device(array.place);
            return nb::make_tuple(device.type, device.index);
          },
          nb::sig("def __dlpack_device__(self) -> tuple[int, int]"))
      .def_prop_ro("__cuda_array_interface__", interface_of,
                   nb::sig("def __cuda_array_interface__(self) -> dict[str, object]"),
                   "Version 3, of a tensor on a GPU. Its stream is the one that steps write on.")
      .def("__array__", to_numpy, "dtype"_a = nb::none(), "copy"_a = nb::none(),
           nb::sig("def __array__(self, dtype: object = None, copy: bool | None = None) -> object"),
           "As a NumPy array on the same bytes, unless another dtype or a copy is asked for.")
      .def(
          "numpy", [](nb::handle self) { return to_numpy(self, nb::none(), nb::none()); },
          nb::sig("def numpy(self) -> object"), "A NumPy array on the same bytes.")
      .def("cpu", on_host, "The tensor itself on the CPU; of one on a GPU a copy, which is done.")
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
      .def_prop_ro(
          "device", [](const ArrayView& array) { return to_string(array.place); },
          "\"cpu\", \"cuda:0\", ...")
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
             "A tensor on x's bytes; with copy=True on bytes of its own, with device='cpu' or "
             "'cuda:N' there, by a\ncopy if need be. BufferError where that cannot be. What x's "
             "library does on a GPU is waited for.");
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
      "array",
      [](nb::handle x, std::string_view name) { return array_of(x, name, {.anywhere = true}); },
      "x"_a.none(), "name"_a,
      "Anything with a buffer or __dlpack__ as a tensor on the same bytes, wherever they are; "
      "errors begin with the name.");
  module.def(
      "copied",
      [](nb::handle x, std::string_view name) {
        return clone(array_of(x, name, {.anywhere = true}));
      },
      "x"_a.none(), "name"_a, "As array(), on bytes of its own on the CPU.");
  module.def("assign", assign, "target"_a, "values"_a,
             "Copies values into a tensor of the same shape, converting numbers.");
  module.def("shares_memory", shares_memory, "a"_a.none(), "b"_a.none(),
             nb::sig("def shares_memory(a: object, b: object) -> bool"),
             "Whether the bytes of two arrays, of whatever libraries, overlap.");
}

}  // namespace poolgrad::python

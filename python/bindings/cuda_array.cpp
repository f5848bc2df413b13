// The interface is a dict of numbers; nothing in it keeps the bytes, so an import keeps the object.
#include "python/bindings/cuda_array.h"

#include <algorithm>

#include "engine/cuda/launcher.h"
#include "engine/error.h"
#include "interop/handshake.h"
#ifdef POOLGRAD_CUDA
#include "memory/cuda.h"
#endif

namespace poolgrad::python {
namespace {

struct Type {
  DType dtype;
  const char* name;
};
constexpr Type kTypes[] = {{DType::f32, "<f4"},    {DType::f64, "<f8"}, {DType::f16, "<f2"},
                           {DType::i64, "<i8"},    {DType::i32, "<i4"}, {DType::u8, "|u1"},
                           {DType::boolean, "|b1"}};

/// Keeps an object on whatever thread, also after the interpreter.
std::shared_ptr<const void> keeping(nb::handle object) {
  object.inc_ref();
  return {object.ptr(), [](PyObject* kept) {
            if (Py_IsInitialized() == 0) return;
            const nb::gil_scoped_acquire gil;
            Py_DECREF(kept);
          }};
}

nb::object entry(const nb::dict& interface, const char* name) {
  return interface.contains(name) ? nb::object(interface[name]) : nb::none();
}

DType dtype_of_type(std::string_view type, std::string_view name) {
  for (const Type& known : kTypes) {
    const std::string_view theirs = known.name;
    if (type.size() == 3 && type.substr(1) == theirs.substr(1) && type[0] != '>')
      return known.dtype;
  }
  throw ExportError(text(name, ": elements of type '", type,
                         "' are unknown here; convert to float32, or to int64 for labels"));
}

Shape extents_of(nb::handle tuple, std::string_view name) {
  const auto extents = nb::cast<std::vector<std::int64_t>>(tuple);
  if (extents.size() <= Shape::kMaxRank) return Shape(extents);
  throw ExportError(text(name, ": ", extents.size(), " axes, where at most ", Shape::kMaxRank,
                         " are possible; reshape it"));
}

Shape strides_of(nb::handle bytes, const Spec& spec, std::string_view name) {
  if (bytes.is_none()) return spec.strides();
  Shape strides = extents_of(bytes, name);
  if (strides.rank() != spec.shape.rank())
    throw ExportError(text(name, ": ", strides.rank(), " strides for a shape ", spec.shape));
  const auto element = static_cast<std::int64_t>(size_of(spec.dtype));
  for (int axis = 0; axis < strides.rank(); ++axis) {
    if (strides[axis] % element != 0)
      throw ExportError(text(name, ": a stride of ", strides[axis],
                             " bytes is no multiple of the element's ", element, "; pass a copy"));
    strides[axis] /= element;
  }
  return strides;
}

/// 0 is what libraries call the legacy default stream, whose number is 1.
std::int64_t numbered(nb::handle address) {
  const auto number = nb::cast<std::int64_t>(address);
  return number == 0 ? 1 : number;
}

}  // namespace

std::optional<std::int64_t> stream_number(nb::handle stream) {
  if (stream.is_none()) return std::nullopt;
  if (nb::isinstance<nb::int_>(stream)) return nb::cast<std::int64_t>(stream);
  if (nb::hasattr(stream, "__cuda_stream__")) {
    nb::object pair = stream.attr("__cuda_stream__");  // (version, address)
    if (PyCallable_Check(pair.ptr()) != 0) pair = pair();
    return numbered(pair[1]);
  }
  for (const char* name : {"cuda_stream", "ptr"}) {  // torch's, CuPy's
    if (nb::hasattr(stream, name)) return numbered(stream.attr(name));
  }
  throw nb::type_error(text("stream: '", nb::type_name(stream.type()).c_str(),
                            "' is neither a stream nor the number of one")
                           .c_str());
}

nb::dict interface_of(const ArrayView& array) {
  if (array.place.space != memory::Space::cuda)
    throw nb::attribute_error("__cuda_array_interface__: the tensor lies on the CPU");
  const auto* type = std::ranges::find(kTypes, array.dtype, &Type::dtype);
  if (type == std::end(kTypes))
    throw nb::attribute_error(
        "__cuda_array_interface__: bfloat16 has no name there; use from_dlpack");
  nb::dict result;
  const bool empty = array.shape.count() == 0;
  result["shape"] = tuple_of(array.shape);
  result["typestr"] = type->name;
  result["data"] =
      nb::make_tuple(empty ? 0 : reinterpret_cast<std::uintptr_t>(array.data), array.read_only);
  result["version"] = 3;
  result["strides"] = nb::none();
  if (!array.row_major()) {
    Shape bytes = array.strides;
    for (int axis = 0; axis < bytes.rank(); ++axis)
      bytes[axis] *= static_cast<std::int64_t>(size_of(array.dtype));
    result["strides"] = tuple_of(bytes);
  }
  const auto number = reinterpret_cast<std::uintptr_t>(array.stream.handle);
  result["stream"] = number == 0 ? nb::object(nb::none()) : nb::object(nb::int_(number));
  return result;
}

memory::Stream stream_for(const Reader& reader, int gpu) {
  if (reader.place == memory::Place{memory::Space::cuda, gpu}) return reader.stream;
  if (reader.anywhere && cuda::device_count() > 0) return cuda::stream(1, gpu);
  return {};
}

ArrayView array_of_interface(nb::handle object, std::string_view name, const Reader& reader) {
  const auto interface = nb::cast<nb::dict>(object.attr("__cuda_array_interface__"));
  if (!entry(interface, "mask").is_none())
    throw ExportError(text(name, ": masked arrays cannot be read; pass one without a mask"));
  const Spec spec{extents_of(interface["shape"], name),
                  dtype_of_type(nb::cast<std::string>(interface["typestr"]), name)};
  const auto [address, read_only] =
      nb::cast<std::pair<std::uintptr_t, bool>>(nb::object(interface["data"]));
  void* data = reinterpret_cast<void*>(address);
  const int found = address == 0 ? -1 : cuda::device_of(data);
  const int gpu = found >= 0 ? found : reader.place.index;
  memory::Stream stream = stream_for(reader, gpu);
  if (stream.is_caller())
    throw ExportError(text(name, ": the array lies on cuda:", gpu, " but is wanted on ",
                           to_string(reader.place), "; move it there first"));
  const nb::object theirs = entry(interface, "stream");
  if (!theirs.is_none()) stream = interop::numbered_stream(nb::cast<std::int64_t>(theirs), stream);
  return {data,
          spec.shape,
          strides_of(entry(interface, "strides"), spec, name),
          spec.dtype,
          {memory::Space::cuda, gpu},
          keeping(object),
          read_only,
          stream};
}

void bind_cuda(nb::module_& module) {
#ifdef POOLGRAD_CUDA
  module.attr("cuda_allocator") =
      nb::make_tuple(reinterpret_cast<std::uintptr_t>(&poolgrad_cuda_alloc),
                     reinterpret_cast<std::uintptr_t>(&poolgrad_cuda_free));
#endif
  module.def("cuda_device_count", [] { return cuda::device_count(); });
  module.def("cuda_missing", []() -> std::optional<std::string> {
    std::string why;
    if (cuda::device_count(&why) > 0) return std::nullopt;
    return why;
  });
}

}  // namespace poolgrad::python

// Capsules: who owns the tensor in one is told by its name alone.
#include "python/bindings/capsule.h"

#include <dlpack/dlpack.h>

#include "engine/error.h"
#include "interop/dlpack.h"
#include "python/bindings/cuda_array.h"

namespace poolgrad::python {
namespace {

template <typename Managed>
struct Names;
template <>
struct Names<DLManagedTensorVersioned> {
  static constexpr const char* kFresh = "dltensor_versioned";
  static constexpr const char* kUsed = "used_dltensor_versioned";
};
template <>
struct Names<DLManagedTensor> {
  static constexpr const char* kFresh = "dltensor";
  static constexpr const char* kUsed = "used_dltensor";
};

/// Frees a tensor that no consumer took.
template <typename Managed>
void drop(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, Names<Managed>::kFresh) == 0) return;
  const KeepError keep;
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, Names<Managed>::kFresh));
  managed->deleter(managed);
}

template <typename Managed>
nb::object capsule(Managed* managed) {
  PyObject* result = PyCapsule_New(managed, Names<Managed>::kFresh, drop<Managed>);
  if (result == nullptr) {
    managed->deleter(managed);
    throw nb::python_error();
  }
  return nb::steal(result);
}

/// Renamed first: from then on from_dlpack() sees to the deleter, also when it refuses.
template <typename Managed>
ArrayView take(PyObject* capsule, memory::Stream stream) {
  void* managed = PyCapsule_GetPointer(capsule, Names<Managed>::kFresh);
  if (PyCapsule_SetName(capsule, Names<Managed>::kUsed) != 0) throw nb::python_error();
  return interop::from_dlpack(static_cast<Managed*>(managed), stream);
}

/// The stream that a producer on a GPU is to make wait.
memory::Stream stream_to_give(nb::handle producer, const Reader& reader) {
  if (!nb::hasattr(producer, "__dlpack_device__")) return {};
  const nb::object pair = producer.attr("__dlpack_device__")();
  const auto type = nb::cast<int>(nb::int_(nb::object(pair[0]))),
             index = nb::cast<int>(nb::int_(nb::object(pair[1])));
  if (type != kDLCUDA && type != kDLCUDAManaged) return {};
  const memory::Stream stream = stream_for(reader, index);
  if (stream.is_caller() && reader.place.space == memory::Space::cuda)
    throw ExportError(text("from_dlpack: the array lies on cuda:", index, " but is wanted on ",
                           to_string(reader.place), "; move it there first"));
  return stream;
}

}  // namespace

nb::object capsule_of(const ArrayView& array, bool versioned, bool is_copy) {
  if (versioned) return capsule(interop::to_dlpack(array, is_copy));
  return capsule(interop::to_unversioned_dlpack(array));
}

ArrayView array_of_capsule(nb::handle capsule, memory::Stream stream) {
  PyObject* object = capsule.ptr();
  if (PyCapsule_IsValid(object, Names<DLManagedTensorVersioned>::kFresh) != 0) {
    return take<DLManagedTensorVersioned>(object, stream);
  }
  if (PyCapsule_IsValid(object, Names<DLManagedTensor>::kFresh) != 0) {
    return take<DLManagedTensor>(object, stream);
  }
  throw ExportError("from_dlpack: not a DLPack capsule, or one that was used before");
}

ArrayView array_of_producer(nb::handle producer, const Reader& reader, nb::handle copy) {
  const interop::Version version = interop::dlpack_version();
  const memory::Stream stream = stream_to_give(producer, reader);
  nb::dict wishes, least;
  if (!stream.is_caller())
    wishes["stream"] = least["stream"] = reinterpret_cast<std::uintptr_t>(stream.handle);
  wishes["max_version"] = nb::make_tuple(version.major, version.minor);
  if (!copy.is_none()) wishes["copy"] = copy;
  const nb::object ask = producer.attr("__dlpack__");
  nb::object capsule;
  try {
    capsule = ask(**wishes);
  } catch (nb::python_error& error) {  // of before 1.0: knows no arguments
    if (!error.matches(PyExc_TypeError)) throw;
    capsule = ask(**least);
  }
  return array_of_capsule(capsule, stream);
}

}  // namespace poolgrad::python

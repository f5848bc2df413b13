// DLPack's managed tensors in Python's capsules, both ways.
#pragma once

#include "python/bindings/bindings.h"

namespace poolgrad::python {

/// Puts the error in flight aside while something runs that might touch it: capsules die, and
/// buffers are released, during other people's exceptions.
class KeepError {
 public:
#if PY_VERSION_HEX >= 0x030C0000
  KeepError() : error_(PyErr_GetRaisedException()) {}
  ~KeepError() { PyErr_SetRaisedException(error_); }
#else
  KeepError() { PyErr_Fetch(&type_, &error_, &trace_); }
  ~KeepError() { PyErr_Restore(type_, error_, trace_); }
#endif
  KeepError(const KeepError&) = delete;
  KeepError& operator=(const KeepError&) = delete;

 private:
  PyObject* error_ = nullptr;
#if PY_VERSION_HEX < 0x030C0000
  PyObject *type_ = nullptr, *trace_ = nullptr;
#endif
};

/// The array as a capsule, versioned or not. Throws ExportError.
nb::object capsule_of(const ArrayView& array, bool versioned, bool is_copy);

/// Takes over a capsule's tensor; `stream` is the one that its producer was given. Throws
/// ExportError, also for one that was used before.
ArrayView array_of_capsule(nb::handle capsule, memory::Stream stream = {});

/// Asks an object with __dlpack__ for its array: versioned where it can, unversioned otherwise. One
/// on a GPU is given the reader's stream, to make it wait. `copy` is handed on where it is not
/// None.
ArrayView array_of_producer(nb::handle producer, const Reader& reader,
                            nb::handle copy = nb::none());

}  // namespace poolgrad::python

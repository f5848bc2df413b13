// The extension: its parts in the order of the folders, and which error becomes which exception.
#include "engine/error.h"
#include "python/bindings/bindings.h"
#include "python/bindings/files.h"

namespace poolgrad::python {
namespace {

/// What is not here has the right type already: invalid_argument is a ValueError, bad_alloc a
/// MemoryError, runtime_error a RuntimeError.
void translate(const std::exception_ptr& error, void*) {
  try {
    std::rethrow_exception(error);
  } catch (const FileError& e) {
    PyErr_SetString(PyExc_OSError, e.what());
  } catch (const ExportError& e) {
    PyErr_SetString(PyExc_BufferError, e.what());
  }
}

}  // namespace

NB_MODULE(_poolgrad, module) {
  module.doc() = "poolgrad in C++, as seen from Python.";
  nb::register_exception_translator(translate);
  bind_interop(module);
  bind_cuda(module);
  bind_engine(module);
  bind_ops(module);
  bind_layers(module);
  bind_models(module);
  bind_optimizers(module);
  bind_profile(module);
  bind_loader(module);
  bind_files(module);
  bind_step(module);
  bind_plan_requests(module);
}

}  // namespace poolgrad::python

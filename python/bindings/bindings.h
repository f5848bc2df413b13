// What the binding files share: one function per C++ folder, and Python objects as arrays.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include "engine/array.h"
#include "memory/stream.h"

namespace poolgrad::python {

namespace nb = nanobind;
using namespace nb::literals;

void bind_interop(nb::module_& module);
void bind_cuda(nb::module_& module);
void bind_engine(nb::module_& module);
void bind_ops(nb::module_& module);
void bind_layers(nb::module_& module);
void bind_models(nb::module_& module);
void bind_optimizers(nb::module_& module);
void bind_profile(nb::module_& module);
void bind_step(nb::module_& module);
void bind_plan_requests(nb::module_& module);

/// Who is going to use an array: work on `stream` of the device at `place`, or the caller, who
/// reads host memory and, with `anywhere`, takes arrays of any GPU on its legacy default stream.
struct Reader {
  memory::Place place{};
  memory::Stream stream{};
  bool anywhere = false;
};

/// Whatever has bytes, without copying them: a poolgrad.Tensor, an object with a buffer, with
/// __dlpack__ or __cuda_array_interface__. One on a GPU has been told to make the reader's stream
/// wait, or comes with the stream to wait for. `name` begins the message: a TypeError for objects
/// of another kind, ExportError where the bytes cannot be lent or their dtype is unknown.
ArrayView array_of(nb::handle object, std::string_view name, const Reader& reader = {});

/// Zeros, in host memory, row-major, in an arena of their own. Throws ShapeError for extents below
/// 0.
ArrayView new_array(const Shape& shape, DType dtype);

/// The values of `array`, row-major, in an arena of their own, in host memory.
ArrayView clone(const ArrayView& array);

/// "float32", "int64", ... or NumPy's and torch's dtypes of that name. Throws ArgumentError.
DType dtype_of(nb::handle name);

/// 0.001, not 0.0010000000474974513: the shortest number that is this float.
double shortest(float value);

/// An int or a sequence of them.
Shape shape_of(nb::handle extents);
nb::tuple tuple_of(const Shape& shape);

}  // namespace poolgrad::python

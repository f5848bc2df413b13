// Arrays on GPUs in Python: __cuda_array_interface__ both ways, and streams of other libraries.
#pragma once

#include "python/bindings/bindings.h"

namespace poolgrad::python {

/// The number of a stream, as DLPack has it, of whatever says what it is: an int, torch's and
/// CuPy's streams, anything with __cuda_stream__. None: nothing. Throws a TypeError for others.
std::optional<std::int64_t> stream_number(nb::handle stream);

/// __cuda_array_interface__, version 3. Its `stream` is the one that steps write the array on: who
/// reads it waits for that one first. An AttributeError, as the protocol wants it, where there is
/// none: on the CPU, and of bfloat16.
nb::dict interface_of(const ArrayView& array);

/// The array of an object with __cuda_array_interface__, on its own bytes. Throws ExportError for
/// what the reader cannot reach, for masks, and for elements that are unknown here.
ArrayView array_of_interface(nb::handle object, std::string_view name, const Reader& reader);

/// The reader's stream for arrays of that GPU; the caller's where it cannot reach them.
memory::Stream stream_for(const Reader& reader, int gpu);

}  // namespace poolgrad::python

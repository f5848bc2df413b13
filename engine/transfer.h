// Arrays between the host and devices, by streams alone: no program and no launcher is needed. All
// of these return when the copy is done.
#pragma once

#include "engine/array.h"

namespace poolgrad {

/// The values in host memory: `array` itself if it lies there, else a dense copy, taken once what
/// is on its stream is done. Throws ArgumentError for an array on a device that has no stream.
[[nodiscard]] ArrayView on_host(const ArrayView& array);

/// A dense copy in the memory of the device that `stream` belongs to, whatever `array` lies in.
/// Throws MemoryError.
[[nodiscard]] ArrayView copied_to(memory::Stream stream, const ArrayView& array);

/// A dense copy where `array` lies. Throws MemoryError.
[[nodiscard]] ArrayView duplicate(const ArrayView& array);

/// copy() where one side or both are on a device. There `to` is dense, and written in the turn of
/// its stream. What has to be converted, or is not dense, goes by way of the host. Throws
/// ShapeError and ArgumentError.
void copy_across(const ArrayView& from, const ArrayView& to);

}  // namespace poolgrad

// The CUDA device as a Launcher: how one is had. In a build without CUDA, an error that says so.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/op.h"

namespace poolgrad {
class Launcher;
}

namespace poolgrad::cuda {

/// GPU `device.index`, with streams of its own for kernels and for copies. Throws DeviceError where
/// this build has no CUDA, the machine no driver, or the driver no such GPU.
[[nodiscard]] std::shared_ptr<Launcher> launcher(const Device& device);

/// Somebody's cudaStream_t of GPU `device`, by its number: 1 is the legacy default stream, 2 the
/// calling thread's. Throws DeviceError where there is no such GPU.
[[nodiscard]] memory::Stream stream(std::uintptr_t number, int device);

/// The GPU that an address belongs to; -1 for memory of the host, and in builds without CUDA.
[[nodiscard]] int device_of(const void* data);

/// How many GPUs there are; 0 where none can be used, and then `why` says why not.
[[nodiscard]] int device_count(std::string* why = nullptr);

}  // namespace poolgrad::cuda

// The CUDA device as a Launcher: how one is had. In a build without CUDA, an error that says so.
#pragma once

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

/// How many GPUs there are; 0 where none can be used, and then `why` says why not.
[[nodiscard]] int device_count(std::string* why = nullptr);

}  // namespace poolgrad::cuda

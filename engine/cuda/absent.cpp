// What a build without CUDA has of it: the error.
#include "engine/cuda/launcher.h"

namespace poolgrad::cuda {
namespace {
constexpr const char* kWhy = "this build has no CUDA; configure with -DPOOLGRAD_CUDA=ON";
}

std::shared_ptr<Launcher> launcher(const Device& device) {
  throw DeviceError(
      text("device: cuda:", device.index, " cannot be used: ", kWhy, " or use the CPU"));
}

int device_count(std::string* why) {
  if (why != nullptr) *why = kWhy;
  return 0;
}

}  // namespace poolgrad::cuda

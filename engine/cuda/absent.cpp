// What a build without CUDA has of it: the error.
#include "engine/cuda/launcher.h"

namespace poolgrad::cuda {
namespace {

constexpr const char* kWhy = "this build has no CUDA; configure with -DPOOLGRAD_CUDA=ON";

[[noreturn]] void refuse(int index) {
  throw DeviceError(text("device: cuda:", index, " cannot be used: ", kWhy, " or use the CPU"));
}

}  // namespace

std::shared_ptr<Launcher> launcher(const Device& device) { refuse(device.index); }

memory::Stream stream(std::uintptr_t, int device) { refuse(device); }

int device_of(const void*) { return -1; }

int device_count(std::string* why) {
  if (why != nullptr) *why = kWhy;
  return 0;
}

}  // namespace poolgrad::cuda

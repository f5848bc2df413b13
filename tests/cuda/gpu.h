// Whether there is a GPU to test on, told aloud where there is none, and the options for it.
#pragma once

#include <iostream>

#include "engine/compile.h"
#include "engine/cuda/launcher.h"

namespace poolgrad::testing {

[[nodiscard]] inline bool gpu() {
  std::string why;
  if (cuda::device_count(&why) > 0) return true;
  std::cerr << "skipped, no GPU: " << why << "\n";  // ctest looks for this
  return false;
}

/// Nothing rounds to TF32 there.
[[nodiscard]] inline Options on_gpu(Memory memory = Memory::planned) {
  Options options;
  options.device = Device::cuda(0);
  options.memory = memory;
  return options;
}

}  // namespace poolgrad::testing

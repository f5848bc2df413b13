// Which ops the CUDA device does by kernels of ours, and which by libraries: what tests of it go
// through. Not how they are built: for the host in a build without CUDA, else by nvcc.
#pragma once

#include <map>
#include <set>
#include <string>

#include "tests/cuda/fake_launcher.h"

namespace poolgrad::testing {

/// By the op's name.
[[nodiscard]] std::map<std::string, FakeLauncher::Maker> own_kernels();
/// Those that cuBLASLt and cuDNN do.
[[nodiscard]] std::set<std::string> library_ops();

/// A device of the host's with our kernels where the build has them for the host, the CPU's
/// elsewhere.
[[nodiscard]] std::shared_ptr<FakeLauncher> fake_device();

}  // namespace poolgrad::testing

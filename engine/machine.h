// What this build and this machine are: instruction set, kernel library, cores.
#pragma once

#include <filesystem>
#include <string>

namespace poolgrad {

/// The widest instruction set that our loops were compiled for and the processor has: "avx512",
/// "avx2" or "baseline". Plans and roundings are the same where it is.
[[nodiscard]] std::string instruction_set();

/// The library behind products and convolutions: "oneDNN 2.6.3" or "Eigen 3.4.0".
[[nodiscard]] std::string kernel_library();

/// All that the speed and the rounding of kernels depends on beside their shapes, in one line:
/// "avx512, oneDNN 2.6.3 with isa 0x7ef, Eigen 3.4.0".
[[nodiscard]] std::string kernels_run_on();

/// Cores that this process may use at once: what its affinity and the processor quotas of its
/// control groups (v2 or v1) leave, at least 1. `root` is where the system's files begin: for
/// tests.
[[nodiscard]] int usable_cores(const std::filesystem::path& root = "/");

}  // namespace poolgrad

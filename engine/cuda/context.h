// Context: what kernels of one device share, and Fault, by which they tell the host what is wrong.
// Nothing of CUDA's own headers, so that kernels can be built for the host too.
#pragma once

#include <cstddef>
#include <cstdint>

namespace poolgrad::cuda {

/// Written by the first kernel that meets a mistake of the user's; in pinned host memory.
struct Fault {
  enum class Kind : std::int32_t { none, label, index, few_rows };
  std::int32_t taken = 0;    // 1: somebody writes or has written the rest
  Kind kind = Kind::none;    // written last
  const char* op = nullptr;  // in the host's memory, whoever writes it
  std::int64_t row = 0, value = 0, limit = 0;
};

class Descriptor;  // cudnn_graph.h

struct Context {
  Fault* fault = nullptr;
  void* blas = nullptr;                   // cublasLtHandle_t
  void* networks = nullptr;               // cudnnHandle_t, on the work stream
  const Descriptor* described = nullptr;  // of a GPU that is not there, for plans without a handle
  bool tensor_float = false;              // products may round their operands to TF32
  int multiprocessors = 1;                // by which launches are made large enough, and no larger
};

/// What a launcher promises of every workspace's address, in bytes: as libraries expect it.
inline constexpr std::size_t kWorkspaceAlignment = 256;

}  // namespace poolgrad::cuda

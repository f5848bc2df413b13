// What talks to cuBLASLt shares: its header, a check of its statuses, and owners of handles. For
// sources that nvcc need not compile. What talks to cuDNN is cudnn_graph.h.
#pragma once

#include <memory>
#include <type_traits>

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "memory/cuda.h"

namespace poolgrad::cuda {

/// Throws DeviceError with the call and the status's name.
void check_blas(cublasStatus_t status, const char* call);

/// Gives a library's handle back by kDestroy.
template <auto kDestroy>
struct Destroy {
  template <typename Handle>
  void operator()(Handle* handle) const {
    (void)kDestroy(handle);
  }
};
template <typename Handle, auto kDestroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy<kDestroy>>;

}  // namespace poolgrad::cuda

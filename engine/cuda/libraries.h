// What talks to CUDA's libraries shares: their headers, checks of their statuses, and the small
// kernels of our own that stand before and after a call. For sources that nvcc need not compile.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include "engine/cuda/helpers.h"
#include "memory/cuda.h"

namespace poolgrad::cuda {

/// Throw DeviceError with the call and the status's name.
void check_blas(cublasStatus_t status, const char* call);
void check_networks(cudnnStatus_t status, const char* call);

}  // namespace poolgrad::cuda
